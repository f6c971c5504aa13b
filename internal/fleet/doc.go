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
// Registrations are admitted at a pace (entry.go); those beyond are refused early, with an appointment. A registration says
// which duties the server wants; the instance takes those that its roster gives it and names who has the others (duties.go).
// A connection is a session as long as it has at least one duty. With Config.Knocks, a server may knock by UDP instead of
// connecting, and is called back (knock.go); such a connection serves as one that the server opened.
//
// Nothing here has a goroutine or a timer per server but the two of its connection. One goroutine each: pings, smeared over their
// period; telling servers that duties have moved; reading knocks; calling back.
//
// A connected server is pinged; one that does not answer in time loses its session. Connected means reachable from this
// process and nothing else: whether a cell can use the server is not the fleet's business.
//
// A client's Hello has the purpose ForClient. Both kinds are served by handlers, one per method, that the composing
// program plugs in: lifecycle, discovery and health thus share one port without knowing each other.
package fleet
