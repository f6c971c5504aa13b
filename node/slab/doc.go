// Package slab keeps what a server has to know of a node that nobody uses: one row of numbers, and beside it a short text, which is its
// name and whatever its owner wants to keep with it. It is a plain value with one owner.
//
// There may be a hundred thousand of them, so nothing here is a pointer to one of them: rows lie in blocks, texts in blocks of bytes,
// and the index holds positions. A collection of garbage looks at none of it, a row costs 56 bytes, its text its own length and two
// bytes, and its place in the index 8 to 16 bytes. Rows are also in chains (chain.go): whoever asks for those of one chain passes by no
// other row.
//
// Rows are in the order of their handles, which only rise. A removed row stays as a gap until half of the rows are gaps; a text that was
// replaced stays as waste until half of the texts is waste. Either is then closed in one go, which costs some ten nanoseconds per row
// and comes the rarer the more rows there are. Positions are good until the next Add or Remove.
package slab
