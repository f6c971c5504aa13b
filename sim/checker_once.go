package sim

// once: every request took effect at most once, exactly once if it was acknowledged, and never if the answer was that it
// was not applied (rule 14). The counter "n", to which everybody only adds one, tells it by itself: at the end it lies
// between the increments that were acknowledged and those that may have been applied.
func once(w *World) *checker {
	return &checker{name: "once", finish: func() {
		var least, most [3]int64
		for _, o := range w.ops {
			if o.kind == opIncrement {
				count(o, &least[o.client.volume.at], &most[o.client.volume.at])
			}
			e := o.client.volume.history.effects[o.identity()]
			if e != nil && !e.void && (o.fate == refused || o.fate == void || !o.writes()) {
				w.fail("once", "%v (%s, %s) must not take effect, and did at revision %d of %s", o.request, o.kind, o.fate, e.revision, o.client.volume.id)
			}
		}
		for _, v := range w.cells {
			if v.history.foreign != "" {
				w.fail("once", "the log of %s holds what nobody sent: %s", v.id, v.history.foreign)
			}
			if v.audited != nil && (v.audited[0] < least[v.at] || v.audited[0] > most[v.at]) {
				w.fail("once", "%s counts %d, acknowledged were %d increments and sent at most %d", v.id, v.audited[0], least[v.at], most[v.at])
			}
		}
	}}
}

// count adds one increment to what the counter must have, and to what it may have.
func count(o *op, least, most *int64) {
	switch o.fate {
	case answered:
		*least++
		*most++
	case unknown, pending:
		*most++
	}
}
