package sim

// durability: what was acknowledged is in the log, with the outcome that the client was told. The last reads come after a
// power cut of all servers; order compares them with the log.
func durability(w *World) *checker {
	return &checker{name: "durability", finish: func() {
		for _, o := range w.ops {
			if !o.writes() || o.fate != answered {
				continue
			}
			e := o.volume().history.effects[o.identity()]
			value, told := o.seen()
			switch {
			case e == nil:
				w.fail("durability", place{v: o.volume()}, "%v was acknowledged at revision %d and is not in the log", o.request, o.result.Revision)
			case e.void || e.revision != o.result.Revision || e.succeeded != o.result.Succeeded:
				w.fail("durability", place{v: o.volume()}, "%v was acknowledged as %+v, the log says %+v", o.request, o.result, *e)
			case o.kind == opIncrement && (!told || value != e.value), told && o.kind != opPut && value != 0 && value != e.value:
				w.fail("durability", place{v: o.volume()}, "%v was told %d, the log says %d", o.request, value, e.value)
			}
		}
	}}
}
