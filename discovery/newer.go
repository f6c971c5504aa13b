package discovery

import "physalia/internal/wire"

// OnNewer has f told of every route that is newer than what was held, in pages and in the order in which this copy learned of them
// as far as one cell is concerned and one page follows another. f must not block, nor call into the Service. Call it before
// the first route comes.
func (s *Service) OnNewer(f func([]wire.Route)) {
	s.newer = f
	s.cache.collect = f != nil
}

// writing changes the cache or the scanner, and tells what became newer by it.
func (s *Service) writing(change func()) {
	s.mu.Lock()
	change()
	news := s.cache.news
	s.cache.news = nil
	s.mu.Unlock()
	if len(news) > 0 {
		s.newer(news)
	}
}
