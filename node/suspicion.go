package node

import (
	"log/slog"
	"os"

	"physalia/node/core"
)

// A process that dies cannot say over what. So the loop writes the node that it works on into a page of memory that is shared with a file
// in memory (core.Config.Working): what stands there outlives the process, though not the machine, and costs no system call. The next start reads
// it. Once is chance, since kill -9 may meet any step; a node at which strikes starts in a row ended is taken out of service before it
// is touched, so that no command can keep a server from starting. A start that ended elsewhere begins the count anew.

// strikes is how many starts in a row have to end at the same node.
const strikes = 3

// suspicionBytes is a page. It holds three numbers of eight bytes in the machine's own order, since no other machine reads it.
const suspicionBytes = 4096

// suspicion is the shared page; words is nil when there is none.
type suspicion struct {
	path  string
	words *[3]uint64 // the node being worked on; the suspect; how often in a row
	unmap func() error
}

// open maps the page and judges what the last process left there. Without a page the server runs all the same, and only a node over which it
// dies without a panic is not found out.
func (s *suspicion) open(path string, log *slog.Logger) (working *uint64, suspect core.Handle) {
	words, unmap, err := mapPage(path)
	if err != nil {
		log.Warn("a node over which this process dies will not be found out", "err", err)
		return nil, 0
	}
	s.path, s.words, s.unmap = path, words, unmap
	if suspect = s.judge(); suspect != 0 {
		log.Error("the process died again and again over one node, which is taken out of service", "handle", uint64(suspect))
	}
	return &words[0], suspect
}

// judge counts how the last process ended.
func (s *suspicion) judge() (suspect core.Handle) {
	at := s.words[0]
	s.words[0] = 0
	switch {
	case at == 0:
		s.words[1], s.words[2] = 0, 0
	case at == s.words[1]:
		s.words[2]++
	default:
		s.words[1], s.words[2] = at, 1
	}
	if s.words[2] < strikes {
		return 0
	}
	s.words[1], s.words[2] = 0, 0
	return core.Handle(at)
}

// close unmaps the page; the loop has ended. Nobody is suspect after an end like this one, so the file goes, too; after any other it stays, a
// page of memory until the machine is started again.
func (s *suspicion) close() error {
	if s.unmap == nil {
		return nil
	}
	unmap, was := s.unmap, s.words[0]
	s.words, s.unmap = nil, nil
	if err := unmap(); err != nil || was != 0 {
		return err
	}
	return os.Remove(s.path)
}
