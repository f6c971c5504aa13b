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

// metrics are the numbers of one server. There is never a series per cell: cells are counted, not listed.
type metrics struct {
	registry *prometheus.Registry

	slots, commands, turns, campaigns, quarantined prometheus.Counter
	batches, records, bytes                        prometheus.Counter
	nodes, hot, led                                prometheus.Gauge
	dropped, replies                               *prometheus.CounterVec
	sync                                           prometheus.Histogram

	ok, lastTurn atomic.Int64
}

func newMetrics(s *Server) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	labels := prometheus.Labels{"brick": s.identity.Brick, "color": s.identity.Color}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "physalia_" + name, Help: help, ConstLabels: labels})
		m.registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "physalia_" + name, Help: help, ConstLabels: labels})
		m.registry.MustRegister(g)
		return g
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "physalia_" + name, Help: help, ConstLabels: labels}, []string{label})
		m.registry.MustRegister(c)
		return c
	}
	m.slots = counter("slots_chosen_total", "Slots applied by nodes of this server.")
	m.commands = counter("commands_applied_total", "Transactions applied by nodes of this server.")
	m.turns = counter("loop_turns_total", "Turns of the event loop.")
	m.campaigns = counter("campaigns_total", "Times a node of this server asked for its cell.")
	m.quarantined = counter("quarantines_total", "Nodes taken out of service after a failed assertion or damaged data.")
	m.batches = counter("storage_batches_total", "Batches handed to storage.")
	m.records = counter("storage_records_total", "Records in batches handed to storage.")
	m.bytes = counter("storage_bytes_total", "Bytes of keys and values handed to storage.")
	m.nodes = gauge("nodes", "Nodes hosted.")
	m.hot = gauge("nodes_hot", "Nodes with their state in memory.")
	m.led = gauge("cells_led", "Cells whose proposer is on this server.")
	m.dropped = vec("peer_messages_dropped_total", "Messages of peers that were dropped.", "reason")
	m.replies = vec("replies_total", "Requests answered, by result.", "result")
	m.sync = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "physalia_storage_sync_seconds", ConstLabels: labels,
		Help: "Time from handing over a batch until it was durable.", Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16)})
	m.registry.MustRegister(m.sync, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{Namespace: ""}))
	return m
}

// meshStats exports what the mesh counts.
func (m *metrics) meshStats(stats *mesh.Stats) {
	for name, v := range map[string]*atomic.Uint64{
		"peer_frames_sent_total": &stats.FramesSent, "peer_bytes_sent_total": &stats.BytesSent,
		"peer_frames_dropped_total": &stats.FramesDropped, "peer_frames_received_total": &stats.FramesReceived,
		"peer_messages_received_total": &stats.MessagesReceived, "peer_dials_total": &stats.Dials,
		"peer_malformed_total": &stats.Malformed, "peers_refused_total": &stats.PeersRefused,
	} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "physalia_" + name,
			Help: "Peer mesh: " + name + "."}, func() float64 { return float64(v.Load()) }))
	}
}

// events are what the core tells.
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

// reply counts one answer; successes are counted apart and added up per turn, they are the hot path.
func (m *metrics) reply(err *cell.Error) {
	if err == nil {
		m.ok.Add(1)
		return
	}
	m.replies.WithLabelValues(err.Kind.String()).Inc()
}

func (m *metrics) turn() {
	m.turns.Inc()
	m.lastTurn.Store(time.Now().UnixNano())
}

func (m *metrics) gauges(nodes, hot, led int) {
	m.nodes.Set(float64(nodes))
	m.hot.Set(float64(hot))
	m.led.Set(float64(led))
	if n := m.ok.Swap(0); n > 0 {
		m.replies.WithLabelValues("ok").Add(float64(n))
	}
}

func (m *metrics) fsync(d time.Duration) { m.sync.Observe(d.Seconds()) }

// gossipPool exports the size of the gossip pool, asked at each scrape.
func (m *metrics) gossipPool(members func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "physalia_gossip_members",
		Help: "Servers in the gossip pool of this brick and color."}, func() float64 { return float64(members()) }))
}

// sinceTurn is how long ago the loop last finished a turn.
func (m *metrics) sinceTurn() time.Duration { return time.Since(time.Unix(0, m.lastTurn.Load())) }
