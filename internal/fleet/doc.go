// Package fleet keeps the control plane's connections: it listens once for servers and for clients, knows which servers
// are connected, and lets the control plane call them. It does; it decides nothing about cells.
//
// A server opens the connection (its Hello has the purpose ForControl) and registers; from then on requests flow both
// ways, at the control plane's pace. There is at most one session per identity:
//
//   - a newer boot replaces an older one, and so does a newer connection of the same boot (the server has reconnected
//     and the old connection is half open);
//   - an older boot is refused as Stale while a newer one is connected: two processes run under one identity, or a
//     connection arrived late;
//   - an identity that registers from another brick, rack, power domain or color than before is refused.
//
// A connected server is pinged; one that does not answer in time loses its session. Connected means reachable from this
// process and nothing else: whether a cell can use the server is not the fleet's business.
//
// A client's Hello has the purpose ForClient. Both kinds are served by handlers, one per method, that the composing
// program plugs in: lifecycle, discovery and health thus share one port without knowing each other.
package fleet
