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
	batches, records, bytes                        prometheus.Counter
	rejected                                       prometheus.Counter // client connections
	nodes, hot, led, backlog                       prometheus.Gauge
	dropped, replies                               *prometheus.CounterVec
	sync                                           prometheus.Histogram

	ok atomic.Int64 // successful answers not yet in replies
}

func newMetrics(brick, color string) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), labels: prometheus.Labels{"brick": brick, "color": color}}
	m.slots = m.counter("slots_chosen_total", "Slots applied by nodes of this server.")
	m.commands = m.counter("commands_applied_total", "Transactions applied by nodes of this server.")
	m.turns = m.counter("loop_turns_total", "Turns of the event loop.")
	m.campaigns = m.counter("campaigns_total", "Times a node of this server asked for its cell.")
	m.quarantined = m.counter("quarantines_total", "Nodes taken out of service after a failed assertion or damaged data.")
	m.batches = m.counter("storage_batches_total", "Batches handed to storage.")
	m.records = m.counter("storage_records_total", "Records in batches handed to storage.")
	m.bytes = m.counter("storage_bytes_total", "Bytes of keys and values handed to storage.")
	m.rejected = m.counter("client_connections_rejected_total", "Client connections that did not get through their handshake.")
	m.nodes = m.gauge("nodes", "Nodes hosted.")
	m.hot = m.gauge("nodes_hot", "Nodes with their state in memory.")
	m.led = m.gauge("cells_led", "Cells whose proposer is on this server.")
	m.backlog = m.gauge("storage_backlog_bytes", "Bytes handed to storage and not durable yet.")
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
		{"peer_frames_malformed_total", "Frames received from peers that did not decode.", &stats.Malformed},
		{"peer_handshakes_refused_total", "Handshakes with peers that either side refused.", &stats.PeersRefused},
		{"peer_connections_refused_total", "Connections closed at once because there were too many.", &stats.ConnectionsRefused},
		{"peer_heartbeats_withheld_total", "Heartbeats not sent because the loop, the disk or the lane made no progress.", &stats.HeartbeatsWithheld},
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

// fsync observes how long one batch took.
func (m *metrics) fsync(d time.Duration) { m.sync.Observe(d.Seconds()) }

// gossipPool exports the size of the gossip pool, asked at each scrape.
func (m *metrics) gossipPool(members func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "physalia_gossip_members", ConstLabels: m.labels,
		Help: "Servers in the gossip pool of this brick and color, this one included."}, func() float64 { return float64(members()) }))
}
