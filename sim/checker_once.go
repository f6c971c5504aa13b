package sim

// once: every request took effect at most once, exactly once if it was acknowledged (rule 14). The counter "n", to which
// everybody only adds one, tells it by itself: at the end it lies between the increments that were acknowledged and those
// that may have been applied.
func once(w *World) *checker {
	return &checker{name: "once", finish: func() {
		var least, most [cellsMax]int64
		for _, o := range w.ops {
			if o.kind == opIncrement {
				count(o, &least[o.volume().at], &most[o.volume().at])
			}
		}
		for _, v := range w.cells {
			if v.history.foreign != "" {
				w.fail("once", place{v: v}, "the log holds what nobody sent: %s", v.history.foreign)
			}
			if v.audited != nil && (v.audited[0] < least[v.at] || v.audited[0] > most[v.at]) {
				w.fail("once", place{v: v}, "it counts %d, acknowledged were %d increments and sent at most %d", v.audited[0], least[v.at], most[v.at])
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
