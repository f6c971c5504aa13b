// Package judge keeps the books of a trial and passes the verdict: what was acknowledged and must therefore be there, what
// may or may not have happened, whether the histories are linearizable, whether fences went back, how long writers had
// to wait, and how long requests took.
//
// A Log belongs to one client of one cell and is written by one goroutine; Judge reads all of them when the clients have
// stopped. Times are durations since an origin that all logs of a trial share, on a monotonic clock; nothing here reads one.
package judge
