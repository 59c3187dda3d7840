package rows

import "sync"

// Sequences remembers the highest sequences that this process wrote, so that an ordinary report writes none again. It
// may be behind other processes, so the writing statement must never lower a sequence. The zero value is ready.
type Sequences struct {
	mu      sync.Mutex
	highest map[string]int64 // by channel
}

// Unwritten returns, by channel, the highest sequences that are above the written ones.
func (s *Sequences) Unwritten(all []Sequence) map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var raised map[string]int64
	for _, q := range all {
		if q.Channel == "" || q.Number <= s.highest[q.Channel] || q.Number <= raised[q.Channel] {
			continue
		}
		if raised == nil {
			raised = map[string]int64{}
		}
		raised[q.Channel] = q.Number
	}
	return raised
}

// MarkWritten records what was written, after the commit.
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
