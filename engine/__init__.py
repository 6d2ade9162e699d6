"""Everything a query needs: front ends, embedding, collection, index, alignment, search."""
