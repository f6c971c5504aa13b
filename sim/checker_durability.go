package sim

// durability: what was acknowledged is in the log, with the outcome that the client was told. The last reads come after a
// power cut of all servers; order compares them with the log.
func durability(w *World) *checker {
	return &checker{name: "durability", finish: func() {
		for _, o := range w.ops {
			if !o.writes() || o.fate != answered {
				continue
			}
			e := o.client.volume.history.effects[o.identity()]
			value, told := o.seen()
			switch {
			case e == nil:
				w.fail("durability", "%v was acknowledged at revision %d and is not in the log of %s", o.request, o.result.Revision, o.client.volume.id)
			case e.void || e.revision != o.result.Revision || e.succeeded != o.result.Succeeded:
				w.fail("durability", "%v was acknowledged as %+v, the log of %s says %+v", o.request, o.result, o.client.volume.id, *e)
			case o.kind == opIncrement && (!told || value != e.value), told && o.kind != opPut && value != 0 && value != e.value:
				w.fail("durability", "%v was told %d, the log of %s says %d", o.request, value, o.client.volume.id, e.value)
			}
		}
	}}
}
