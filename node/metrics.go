package node

import (
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"physalia/cell"
	"physalia/node/admission"
	"physalia/node/core"
	"physalia/node/mesh"
	"physalia/node/storage"
	"physalia/paxos"
)

// metrics are the numbers of one server, all with its brick and color. There is never a series per cell: cells are
// counted, not listed. The loop writes most of them; any goroutine may write any.
type metrics struct {
	registry *prometheus.Registry
	labels   prometheus.Labels

	slots, commands, turns, campaigns             prometheus.Counter
	evicted, disputed, unvouched                  prometheus.Counter
	pointers, commandSet                          prometheus.Gauge
	batches, records, bytes                       prometheus.Counter
	resigned, withheld, forwarded                 prometheus.Counter
	handedOver, cold                              prometheus.Counter
	sweeping, journal                             prometheus.Gauge
	swept                                         *prometheus.CounterVec
	nodes, hot, led, backlog, given, held         prometheus.Gauge
	diskStalled, diskSlow, diskLevel, diskFree    prometheus.Gauge
	diskTotal, unsynced                           prometheus.Gauge
	waiting, waitingBytes, inFlight               prometheus.Gauge
	dropped, replies, reads, refused, quarantined *prometheus.CounterVec
	sick                                          *prometheus.GaugeVec
	sync                                          prometheus.Histogram

	localReads, confirmedReads int // not yet in reads; the loop's

	ok atomic.Int64 // successful answers not yet in replies
}

func newMetrics(brick, color string) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), labels: prometheus.Labels{"brick": brick, "color": color}}
	m.slots = m.counter("slots_chosen_total", "Slots applied by nodes of this server.")
	m.commands = m.counter("commands_applied_total", "Transactions applied by nodes of this server.")
	m.turns = m.counter("loop_turns_total", "Turns of the event loop.")
	m.campaigns = m.counter("campaigns_total", "Times a node of this server asked for its cell.")
	m.quarantined = m.vec("quarantines_total", "Nodes taken out of service since the start, by reason.", "reason")
	m.sick = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "physalia_nodes_quarantined", Help: "Nodes out of service and kept for inspection, by reason.",
		ConstLabels: m.labels}, []string{"reason"})
	for _, reason := range core.Reasons { // all of them, so that an alert sees the first
		m.quarantined.WithLabelValues(string(reason))
		m.sick.WithLabelValues(string(reason))
	}
	m.resigned = m.counter("resignations_total", "Cells given up because a node of this server could do nothing for them within a support period.")
	m.handedOver = m.counter("handovers_total", "Cells handed over to a server that came back and leads fewer.")
	m.cold = m.counter("cold_answers_total", "Messages of peers answered for a node without loading it.")
	m.sweeping = m.gauge("sweep_cells", "Cells that dead servers led and that this server has yet to look at.")
	m.swept = m.vec("sweep_cells_total", "Cells that a dead server led and that were looked at: asked for, another server's to ask for, or not to be asked for now.", "result")
	m.withheld = m.counter("heartbeats_withheld_total", "Ticks without heartbeats because the disk made no progress.")
	m.forwarded = m.counter("forwards_total", "Requests passed on to the server of their proposer.")
	m.evicted = m.counter("pointers_evicted_total", "Pointers to where a cell went that were forgotten for lack of room.")
	m.disputed = m.counter("cells_disputed_total", "Times that no majority of a cell's members agreed on its state; it takes no writes then.")
	m.unvouched = m.counter("lessons_unvouched_total", "Taught states that were installed without a second member's word.")
	m.pointers = m.gauge("pointers", "Nodes that left, of which it is known where their cells live.")
	m.batches = m.counter("storage_batches_total", "Batches handed to storage.")
	m.records = m.counter("storage_records_total", "Keys in batches handed to storage; all that nodes vote for in a turn has one.")
	m.bytes = m.counter("storage_bytes_total", "Bytes of keys and values handed to storage.")
	m.nodes = m.gauge("nodes", "Nodes hosted.")
	m.hot = m.gauge("nodes_hot", "Nodes with their state in memory.")
	m.led = m.gauge("cells_led", "Cells whose proposer is on this server.")
	m.backlog = m.gauge("storage_backlog_bytes", "Bytes handed to storage and not durable yet.")
	m.journal = m.gauge("journal_bytes", "Bytes in the journal, which a restart reads and which nodes are shelved to keep short; 0 on a server that nobody writes to.")
	m.unsynced = m.gauge("storage_oldest_seconds", "How long the oldest batch has waited for the disk; 0 when none waits.")
	m.diskStalled = m.gauge("disk_stalled", "1 while the disk makes no progress: the server is not supported, and gives its cells away.")
	m.diskSlow = m.gauge("disk_slow", "1 from a stall of the disk until some time after it: the server leads nothing that others can lead.")
	m.diskLevel = m.gauge("disk_space_level", "0: there is room; 1: low, no new nodes, no writes led from here; 2: full, no votes for writes.")
	m.diskFree = m.gauge("disk_free_bytes", "Bytes that the data directory's file system has left.")
	m.diskTotal = m.gauge("disk_size_bytes", "Bytes of the data directory's file system.")
	m.given = m.gauge("support_given", "Peer servers that this one supports.")
	m.held = m.gauge("support_held", "Peer servers whose support this one holds.")
	m.commandSet = m.gauge("command_set", "Newest command set that this server proposes, where every member of a cell understands it.")
	m.reads = m.vec("reads_total", "Linearizable reads answered, under a read lease or confirmed by the jury.", "by")
	m.dropped = m.vec("peer_messages_dropped_total", "Messages of peers that were dropped.", "reason")
	m.waiting = m.gauge("requests_waiting", "Requests that the loop has left for its next turns.")
	m.waitingBytes = m.gauge("requests_waiting_bytes", "Their encoded bytes.")
	m.inFlight = m.gauge("requests_in_flight", "Requests that the loop has taken on and not answered.")
	m.refused = m.vec("requests_refused_total", "Requests refused early, by the bound that they met.", "reason")
	m.replies = m.vec("replies_total", "Requests answered, by result.", "result")
	m.sync = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "physalia_storage_sync_seconds", ConstLabels: m.labels,
		Help: "Time from handing over a batch until the loop heard that it is durable.", Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16)})
	m.registry.MustRegister(m.sick, m.sync, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "physalia_" + name, Help: help, ConstLabels: m.labels})
	m.registry.MustRegister(c)
	return c
}

func (m *metrics) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "physalia_" + name, Help: help, ConstLabels: m.labels})
	m.registry.MustRegister(g)
	return g
}

func (m *metrics) vec(name, help, label string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "physalia_" + name, Help: help, ConstLabels: m.labels}, []string{label})
	m.registry.MustRegister(c)
	return c
}

// meshStats exports what the mesh counts, read at each scrape.
func (m *metrics) meshStats(stats *mesh.Stats) {
	for _, s := range []struct {
		name, help string
		value      *atomic.Uint64
	}{
		{"peer_frames_sent_total", "Frames handed to the kernel for peers.", &stats.FramesSent},
		{"peer_bytes_sent_total", "Bytes handed to the kernel for peers.", &stats.BytesSent},
		{"peer_writes_total", "System calls that sent frames to peers.", &stats.Writes},
		{"peer_frames_dropped_total", "Frames for peers that were not sent: the lane was down, full, or broke.", &stats.FramesDropped},
		{"peer_frames_received_total", "Frames of messages received from peers.", &stats.FramesReceived},
		{"peer_messages_received_total", "Messages received from peers.", &stats.MessagesReceived},
		{"peer_frames_overrun_total", "Frames received and dropped because too much of their lane waited for the loop.", &stats.FramesOverrun},
		{"peer_dials_total", "Attempts to connect to a peer.", &stats.Dials},
		{"peer_heartbeats_replaced_total", "Heartbeats replaced by newer ones before they left.", &stats.HeartbeatsReplaced},
	} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "physalia_" + s.name, Help: s.help, ConstLabels: m.labels},
			func() float64 { return float64(s.value.Load()) }))
	}
}

// events are what the core tells, on the loop.
func (m *metrics) events(s *Server) core.Events {
	return core.Events{
		Quarantined: func(id cell.ID, reason core.Reason, why string) {
			m.quarantined.WithLabelValues(string(reason)).Inc()
			attributes := []any{"cell", id, "why", why}
			if stack := debug.Stack(); reason == core.Panicked || reason == core.Violated {
				attributes = append(attributes, "stack", string(stack[:min(len(stack), stackBytesMax)])) // of the panic, which is still being recovered
			}
			s.cfg.Logger.Error("node quarantined", attributes...)
		},
		Swept:        func(r core.SweepResult) { m.swept.WithLabelValues(r.String()).Inc() },
		HandedOver:   func(cell.ID, cell.ServerID) { m.handedOver.Inc() },
		AnsweredCold: func() { m.cold.Inc() },
		Dropped:      func(reason string) { m.dropped.WithLabelValues(reason).Inc() },
		Refused:      func(reason string) { m.refusal(admission.Reason(reason)) },
		Chosen: func(slots, commands int) {
			m.slots.Add(float64(slots))
			m.commands.Add(float64(commands))
		},
		Campaign: func(id cell.ID, b paxos.Ballot) {
			m.campaigns.Inc()
			s.cfg.Logger.Debug("campaign", "cell", id, "ballot", b.String())
		},
		Resigned: func(id cell.ID, b paxos.Ballot) {
			m.resigned.Inc()
			s.cfg.Logger.Debug("resigned", "cell", id, "ballot", b.String())
		},
		Withheld:  m.withheld.Inc,
		Forwarded: m.forwarded.Inc,
		Read: func(local bool) {
			if local {
				m.localReads++
			} else {
				m.confirmedReads++
			}
		},
		PointerEvicted: m.evicted.Inc,
		Disputed: func(id cell.ID, why string) {
			m.disputed.Inc()
			s.cfg.Logger.Error("cell is disputed", "cell", id, "why", why)
		},
		Unvouched: func(id cell.ID) {
			m.unvouched.Inc()
			s.cfg.Logger.Warn("a taught state was installed that no second member could confirm", "cell", id)
		},
		Ails:   func(stalled, slow bool, level core.Space) { m.ails(s.cfg.Logger, stalled, slow, level) },
		Routes: s.agent.changed,
	}
}

func (m *metrics) batch(b *storage.Batch) {
	m.batches.Inc()
	m.records.Add(float64(b.Len()))
	m.bytes.Add(float64(b.Bytes()))
}

// reply counts one answer; successes are counted apart and added up per tick, they are the hot path.
func (m *metrics) reply(err *cell.Error) {
	if err == nil {
		m.ok.Add(1)
		return
	}
	m.replies.WithLabelValues(err.Kind.String()).Inc()
}

// gauges brings up to date what changes too often to be followed; called every tick.
func (m *metrics) gauges(nodes, hot, led, backlog int) {
	m.nodes.Set(float64(nodes))
	m.hot.Set(float64(hot))
	m.led.Set(float64(led))
	m.backlog.Set(float64(backlog))
	if n := m.ok.Swap(0); n > 0 {
		m.replies.WithLabelValues("ok").Add(float64(n))
	}
}

// support brings up to date what is known of the peers' support, and how reads were answered; called every tick.
func (m *metrics) support(given, held int) {
	m.given.Set(float64(given))
	m.held.Set(float64(held))
	m.reads.WithLabelValues("lease").Add(float64(m.localReads))
	m.reads.WithLabelValues("jury").Add(float64(m.confirmedReads))
	m.localReads, m.confirmedReads = 0, 0
}

// stackBytesMax bounds what the log is told of a panic; where it happened comes first.
const stackBytesMax = 4 << 10

// quarantines brings up to date how many nodes are out of service; called when that changed.
func (m *metrics) quarantines(now map[core.Reason]int) {
	for _, reason := range core.Reasons {
		m.sick.WithLabelValues(string(reason)).Set(float64(now[reason]))
	}
}

// fsync observes how long one batch took.
func (m *metrics) fsync(d time.Duration) { m.sync.Observe(d.Seconds()) }

// gossipPool exports the size of the gossip pool, asked at each scrape.
func (m *metrics) gossipPool(members func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "physalia_gossip_members", ConstLabels: m.labels,
		Help: "Servers in the gossip pool of this brick and color, this one included."}, func() float64 { return float64(members()) }))
}

// refusal counts a request that was refused early. From any goroutine.
func (m *metrics) refusal(why admission.Reason) { m.refused.WithLabelValues(string(why)).Inc() }

// ails notes that the state of the disk has changed. On the loop.
func (m *metrics) ails(log *slog.Logger, stalled, slow bool, level core.Space) {
	m.diskStalled.Set(number(stalled))
	m.diskSlow.Set(number(slow))
	m.diskLevel.Set(float64(level))
	log.Warn("disk", "stalled", stalled, "slow", slow, "space", level.String())
}

// number is a truth as a gauge has it.
func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// space notes how much room the disk has.
func (m *metrics) space(free, total uint64) {
	m.diskFree.Set(float64(free))
	m.diskTotal.Set(float64(total))
}

// queue brings up to date what waits for the loop, and what it has taken on; called every tick.
func (m *metrics) queue(left queued, inFlight int) {
	m.waiting.Set(float64(left.requests))
	m.waitingBytes.Set(float64(left.requestBytes))
	m.inFlight.Set(float64(inFlight))
}

// bounds exports the bounds that requests meet, so that a dashboard can show how near they are, and how many identities have an
// account.
func (m *metrics) bounds(cfg *Config, identities func() int) {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "physalia_bound", ConstLabels: m.labels,
		Help: "The bounds that requests meet, by what they bound; see requests_refused_total."}, []string{"of"})
	for of, bound := range map[string]float64{
		"requests waiting": float64(cfg.InboxMax), "request bytes waiting": inboxRequestBytesMax, "requests per turn": float64(cfg.Admission.TurnRequests),
		"requests waiting of a cell": float64(cfg.Admission.CellRequests), "request bytes waiting of a cell": float64(cfg.Admission.CellBytes),
		"seconds of waiting": cfg.Admission.DelayMax.Seconds(), "requests per second of a cell": cfg.Admission.CellRate.PerSecond,
		"requests in flight of an identity": float64(cfg.Identity.Requests), "request bytes in flight of an identity": float64(cfg.Identity.Bytes),
		"requests per second of an identity": cfg.Identity.Rate.PerSecond, "requests in flight": float64(core.Default().WaitersMax),
		"storage backlog bytes": backlogBytesMax, "peer bytes waiting": inboxPeerBytesMax,
	} {
		v.WithLabelValues(of).Set(bound)
	}
	m.registry.MustRegister(v, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "physalia_identities", ConstLabels: m.labels,
		Help: "Identities with an account of what they have in flight."}, func() float64 { return float64(identities()) }))
}
