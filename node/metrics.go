package node

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"physalia/cell"
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

	slots, commands, turns, campaigns, quarantined prometheus.Counter
	evicted, disputed, unvouched                   prometheus.Counter
	pointers                                       prometheus.Gauge
	batches, records, bytes                        prometheus.Counter
	resigned, withheld, forwarded                  prometheus.Counter
	nodes, hot, led, backlog, given, held          prometheus.Gauge
	dropped, replies, reads                        *prometheus.CounterVec
	sync                                           prometheus.Histogram

	localReads, confirmedReads int // not yet in reads; the loop's

	ok atomic.Int64 // successful answers not yet in replies
}

func newMetrics(brick, color string) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), labels: prometheus.Labels{"brick": brick, "color": color}}
	m.slots = m.counter("slots_chosen_total", "Slots applied by nodes of this server.")
	m.commands = m.counter("commands_applied_total", "Transactions applied by nodes of this server.")
	m.turns = m.counter("loop_turns_total", "Turns of the event loop.")
	m.campaigns = m.counter("campaigns_total", "Times a node of this server asked for its cell.")
	m.quarantined = m.counter("quarantines_total", "Nodes taken out of service after a failed assertion or damaged data.")
	m.resigned = m.counter("resignations_total", "Cells given up because a node of this server could do nothing for them within a support period.")
	m.withheld = m.counter("heartbeats_withheld_total", "Ticks without heartbeats because the disk made no progress.")
	m.forwarded = m.counter("forwards_total", "Requests passed on to the server of their proposer.")
	m.evicted = m.counter("pointers_evicted_total", "Pointers to where a cell went that were forgotten for lack of room.")
	m.disputed = m.counter("cells_disputed_total", "Times that no majority of a cell's members agreed on its state; it takes no writes then.")
	m.unvouched = m.counter("lessons_unvouched_total", "Taught states that were installed without a second member's word.")
	m.pointers = m.gauge("pointers", "Nodes that left, of which it is known where their cells live.")
	m.batches = m.counter("storage_batches_total", "Batches handed to storage.")
	m.records = m.counter("storage_records_total", "Records in batches handed to storage.")
	m.bytes = m.counter("storage_bytes_total", "Bytes of keys and values handed to storage.")
	m.nodes = m.gauge("nodes", "Nodes hosted.")
	m.hot = m.gauge("nodes_hot", "Nodes with their state in memory.")
	m.led = m.gauge("cells_led", "Cells whose proposer is on this server.")
	m.backlog = m.gauge("storage_backlog_bytes", "Bytes handed to storage and not durable yet.")
	m.given = m.gauge("support_given", "Peer servers that this one supports.")
	m.held = m.gauge("support_held", "Peer servers whose support this one holds.")
	m.reads = m.vec("reads_total", "Linearizable reads answered, under a read lease or confirmed by the jury.", "by")
	m.dropped = m.vec("peer_messages_dropped_total", "Messages of peers that were dropped.", "reason")
	m.replies = m.vec("replies_total", "Requests answered, by result.", "result")
	m.sync = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "physalia_storage_sync_seconds", ConstLabels: m.labels,
		Help: "Time from handing over a batch until the loop heard that it is durable.", Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16)})
	m.registry.MustRegister(m.sync, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
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
		Quarantined: func(id cell.ID, why string) {
			m.quarantined.Inc()
			s.cfg.Logger.Error("node quarantined", "cell", id, "why", why)
		},
		Dropped: func(reason string) { m.dropped.WithLabelValues(reason).Inc() },
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

// fsync observes how long one batch took.
func (m *metrics) fsync(d time.Duration) { m.sync.Observe(d.Seconds()) }

// gossipPool exports the size of the gossip pool, asked at each scrape.
func (m *metrics) gossipPool(members func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "physalia_gossip_members", ConstLabels: m.labels,
		Help: "Servers in the gossip pool of this brick and color, this one included."}, func() float64 { return float64(members()) }))
}
