package blockstore

import (
	"fmt"

	"physalia/cell"
)

// Lost hunts B2 to B4: whatever was acknowledged, written or shown, is on the disk of every copy that the current record
// names, at every moment. It looks into disks, and so finds a loss before anybody reads.
type Lost struct {
	acked map[int]Version // block -> newest version acknowledged
}

// Sent sees a message that leaves a copy.
func (l *Lost) Sent(m Message) {
	if m.Kind != WriteDone && m.Kind != ReadDone {
		return
	}
	if l.acked == nil {
		l.acked = map[int]Version{}
	}
	if l.acked[m.Block].Less(m.Version) {
		l.acked[m.Block] = m.Version
	}
}

// Check compares the disk of a copy that the current record names with what was acknowledged.
func (l *Lost) Check(record cell.VolumeRecord, name string, disk *State) error {
	for block, b := range disk.Blocks {
		if v := l.acked[block]; b.Version.Less(v) {
			return fmt.Errorf("lost: version %v of block %d was acknowledged, %s holds %v, and the record is %v", v, block, name, b.Version, record)
		}
	}
	if len(disk.Blocks) == 0 && len(l.acked) > 0 {
		return fmt.Errorf("lost: %s holds nothing, and the record is %v", name, record)
	}
	return nil
}

// Final counts acknowledged writes that the last reads of all blocks no longer show: those above what is read.
func Final(history []Operation, last map[int]Version) (lost int) {
	for i := range history {
		if o := &history[i]; o.Write && o.Done && last[o.Block].Less(o.Version) {
			lost++
		}
	}
	return lost
}
