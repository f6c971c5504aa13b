// Package duty decides who in the control plane cares for which server, and how servers get there without a storm. It owns
// no clock, socket or goroutine; package fleet (the control plane) and package node (a server) are the shells around it.
//
// Table: which instance has a duty. The active instance has the lifecycle duty for every server. The live instances divide
// the bricks by rendezvous hashing: the instance with the highest hash of (instance, brick) has the discovery and the health
// duty for the brick's servers. When an instance dies, only its bricks move; when one joins, only those that it wins.
//
// Gate: how many registrations an instance admits. Its pace does not depend on how many servers there are: those beyond are
// refused before any work, each with an appointment of its own, so that they come back at the pace and not all at once.
//
// Seeker: what a server does to have somebody for every duty: which address it tries next, when, and for which duties.
// It follows what instances say of each other, keeps one connection per instance, and backs off, so that the attempts of
// one server are bounded whatever the control plane does:
//
//  1. one request at a time per instance, and none before the time that the instance asked for;
//  2. after an attempt without success the duty waits, twice as long each time up to SeekerConfig.Most, with jitter;
//  3. a pointer is followed at once only the first time; a second one in a row waits as after a failure.
package duty
