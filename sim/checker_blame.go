package sim

// blame: whoever was told that his request was not applied was told the truth, for ever (rule 14): by an error of a kind
// that says so, by the fate that a resolution made final, or by "expired". So does a read, which must not write. Requests
// whose fate nobody told may have taken effect or not.
func blame(w *World) *checker {
	return &checker{name: "blame", finish: func() {
		for _, o := range w.ops {
			h := o.volume().history
			if e := h.effects[o.identity()]; e != nil && !e.void && (o.fate == refused || o.fate == void || !o.writes()) {
				w.fail("blame", place{v: o.volume()}, "%v (%s, %s) must not take effect, and did at revision %d", o.request, o.kind, o.fate, e.revision)
			}
			for _, id := range o.gone {
				if e := h.effects[id]; e != nil && !e.void {
					w.fail("blame", place{v: o.volume()}, "request %d of %v expired before it was applied, and took effect at revision %d",
						id.sequence, o.client.session.id, e.revision)
				}
			}
		}
	}}
}
