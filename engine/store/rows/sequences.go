package rows

import "sync"

// Sequences remembers the highest sequences that this process wrote, so that an ordinary report writes none again. It
// may be behind other processes: the statement that writes must never lower one. The zero value is ready.
type Sequences struct {
	mu      sync.Mutex
	highest map[string]int64 // by channel
}

// Unwritten gives, by channel, the highest of those that are above what was written.
func (s *Sequences) Unwritten(all []Sequence) map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var news map[string]int64
	for _, q := range all {
		if q.Channel == "" || q.Number <= s.highest[q.Channel] || q.Number <= news[q.Channel] {
			continue
		}
		if news == nil {
			news = map[string]int64{}
		}
		news[q.Channel] = q.Number
	}
	return news
}

// MarkWritten says what was written, after the commit.
func (s *Sequences) MarkWritten(all []Sequence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range all {
		if s.highest == nil {
			s.highest = map[string]int64{}
		}
		s.highest[q.Channel] = max(s.highest[q.Channel], q.Number)
	}
}
