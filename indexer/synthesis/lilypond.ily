% lilypond.py includes this file before a source. It writes to standard output what sounds and when, and puts a PDF link
% on every notehead and staff, so that lilypond.py finds both on the page.
%   scorefind-note INDEX SCORE ONSET GRACE LENGTH PITCH   a notehead; times in whole notes, pitch in MIDI
%   scorefind-tied INDEX                                  this notehead is tied and does not sound again
%   link scorefind-note:INDEX:SYSTEM, scorefind-staff:0:SYSTEM
\version "2.24.0"

#(define scorefind-scores 0)
#(define scorefind-heads (make-hash-table))
#(define scorefind-systems (make-hash-table))

#(define (scorefind-number table key)
   (or (hashq-ref table key)
       (let ((number (hash-count (const #t) table)))
         (hashq-set! table key number)
         number)))

#(define (scorefind-link kind index system)
   (format #f "scorefind-~a:~a:~a" kind index (scorefind-number scorefind-systems system)))

#(define (scorefind-hang-link! grob kind index margin)
   (let ((print (ly:grob-property-data grob 'stencil)))
     (ly:grob-set-property! grob 'stencil
       (lambda (grob)
         (let ((stencil (if (procedure? print) (print grob) print)))
           (if (ly:stencil? stencil)
               (let ((x (ly:stencil-extent stencil X))
                     (y (interval-widen (ly:stencil-extent stencil Y) (- (margin grob)))))
                 ; Heads are drawn before line breaking, and their systems are known only at output.
                 (ly:stencil-add stencil
                   (ly:make-stencil
                     (list 'delay-stencil-evaluation
                       (delay (list 'url-link (scorefind-link kind index (ly:grob-system grob)) x y)))
                     x y)))
               stencil))))))

#(define (scorefind-note! context score grob)
   (let* ((event (event-cause grob))
          (pitch (and event (ly:event-property event 'pitch)))
          (length (and event (ly:event-property event 'length)))
          (now (ly:context-current-moment context)))
     (if (and (ly:pitch? pitch) (ly:moment? length) (not (eq? #t (ly:grob-property grob 'transparent))))
         (let ((index (scorefind-number scorefind-heads grob)))
           (format #t "scorefind-note ~a ~a ~a ~a ~a ~a\n" index score
             (exact->inexact (ly:moment-main now)) (exact->inexact (ly:moment-grace now))
             (exact->inexact (ly:moment-main length)) (exact->inexact (+ 60 (ly:pitch-semitones pitch))))
           (scorefind-hang-link! grob "note" index (const 0))))))

#(define (scorefind-tied! tie)
   (let ((index (hashq-ref scorefind-heads (ly:spanner-bound tie RIGHT))))
     (if index (format #t "scorefind-tied ~a\n" index))))

#(define (scorefind-engraver context)
   (let ((score scorefind-scores))
     (set! scorefind-scores (1+ score))
     (make-engraver
       (acknowledgers
         ((note-head-interface engraver grob source) (scorefind-note! context score grob))
         ((staff-symbol-interface engraver grob source)
          ; The box of a staff reaches from the middle of its top line to that of its bottom line.
          (scorefind-hang-link! grob "staff" 0 (lambda (grob) (/ (ly:staff-symbol-line-thickness grob) 2)))))
       (end-acknowledgers
         ((tie-interface engraver grob source) (scorefind-tied! grob))))))

\layout { \context { \Score \consists #scorefind-engraver } }
