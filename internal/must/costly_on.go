//go:build costly

package must

// Costly reports whether assertions that cost more than a few nanoseconds are on.
const Costly = true
