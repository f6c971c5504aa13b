// Package drill holds game days: each drill runs a colony of real processes on this machine, does to it what a bad day would do,
// and passes a verdict with figures. docs/drills.md tells users what each proves and how to run it.
//
// A drill fails for reasons, each a sentence (site.wrong); a drill that could not be carried out is an error, which is no verdict.
// A child that ends by itself is such an error: whatever a drill asks of a colony, no process of it may crash.
//
// # Who is believed
//
// The control plane is what most drills are about, so what it says proves little. A drill asks three sides:
//
//   - the lifecycle manager, for what should be: operator.Operator, as users do;
//   - the servers, for what is: the witness takes the control plane's address for a moment and asks them for their own lists;
//   - clients, for what works: package crowd is the load, package judge reads the logs of all clients and what the cells hold in
//     the end.
//
// The first two are compared cell by cell (site.agree): one incarnation, exactly the members of the newest configuration that any
// server knows, no learner left, no tombstone of anything that nobody asked to delete.
//
// # The drills
//
// chaos. The control plane is killed every 1 to 3 seconds, at moments drawn from the seed. Meanwhile batches of ten cells are
// created; two of each get another member, two are deleted and one of those is created again; in every fourth batch one is moved
// to its users. Every request is repeated until it is acknowledged, as a careful operator would; nothing is repeated after that.
// After each creation a client writes the cell's name into it, so that a cell which was acknowledged and then founded again would
// be found empty. Kills end after twice the span: a sequence of seven moves need not fit into lives of two seconds, and the drill
// asserts that its word is durable, then, in calm, that it was followed.
//
// static. Two phases with the same accidents, the second without any control process: a server dies and returns, another restarts
// at once, clients restart and know no more than where snapshots are, others know only a member, or only a server that gave
// its member away. The verdict is about the difference of errors; the drill expects none in either phase, but a machine that is
// busy with other things may well let a request of fifteen seconds end, and that says nothing about the control plane. In
// the end every server is killed at once and started, with the control plane still dead.
//
// amnesia. A backup is taken, then cells are created, moved and deleted; then the store is lost twice, once without anything in
// its place, once with that backup, while clients write. After each rebuild the list must be the one of before, word by
// word, and the servers must host exactly that. No finding is allowed, and no client may see an error, at any time.
//
// jump. Each volume has its users in a rack of its own; then all jump two racks on. Limits are the defaults. The jury is judged
// by the servers' registrations: every hard constraint holds, and as many nodes are in the users' rack as may be in one.
//
// repair. One server dies: nothing is proposed. A second one dies: cells that lost both get one member back, those that lost one
// keep waiting. Both return before the patience is over: nothing more is proposed. Then a rack dies, of which some cells had
// three nodes: it is held, those cells are raised by one member, and all others stay as they are until the rack returns,
// although the patience is over. Proposals and bytes are compared with the budget of the time that each of this took.
//
// discovery. Three copies restart without their snapshots, then without the lifecycle manager's store as well. They must know
// every cell again, with fewer requests in all than there are cells and none to the lifecycle manager. Clients that remember
// nothing look for cells all the time.
//
// burst. What the machine does at its best is measured with many callers; a share of that is the base load. Then base load, ten times
// as much and base load follow each other without a pause, by a generator that does not wait for answers (surge). Errors of the
// burst are judged by their kinds, what comes after it by latencies beside those of before, all with wide margins. Counters of
// cells are compared with the answers.
//
// upgrade. Every server is stopped politely and started as another binary, one after the other, four times round: to the other
// version, which is held to the commands that ours understands (--command-set); back; there again; and without the hold. The next
// server waits until every client of every cell has had a write acknowledged that it called after the one before was up. Then one
// server of our version comes back although newer commands are in use by now: it must run, at least one of its nodes must stop
// over what it does not understand, and the other version must find all of them well. Clients work all the time, and not one
// request may fail. Without another binary this is a rolling restart, and the last part is left out.
//
// # Drills of special builds
//
// A server of a build with the tag "poison" falls over where it is told to. Nothing of that is in other builds, nor are these drills
// (special_on.go).
//
// poison. One cell of many gets a command over which every state machine panics that applies it. What is counted are the errors of
// clients of all other cells, before and after; a process that ends is an error of the drill. At least four members fall: the
// others cannot choose anything any more, and so survive. Their number must be the same by the servers' metrics, by what each says of
// itself, and by the control plane, which must call the cell lost. Then all servers are killed at once and started, cells that
// nobody has used yet must take writes, and the poisoned nodes must still be out of service.
//
// fatal. The command ends the process, as a fatal error of the runtime would, and a nurse starts servers again as a supervisor would.
// Requests to the poisoned cell are repeated, so that member after member campaigns and falls, until a majority is out of
// service. No server may have died more than three times, nobody may die once it is quiet, and no other cell may have lost
// anything; errors are not counted, since servers that die are servers that die.
//
// color. Three colors of seven servers each. While a file lies beside the data, the servers of the first color die at random, and the
// nurse starts them again. The clients of the other colors must not see one error, and no server of theirs may die; those of the
// first may see errors, and nothing that was acknowledged to them may be lost.
package drill
