package flagserver

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// lookAtSocket is how often a served socket is looked for.
const lookAtSocket = time.Second

// Sockets are those at which programs on this machine ask. Whoever removes or replaces a socket's file cuts them off.
type Sockets struct {
	log           zerolog.Logger
	mu            sync.Mutex
	served        map[string]*unixListener // by path; nil: it is gone
	interruptions int64                    // how often one was found to be gone, or came back
}

// add has a socket looked for.
func (s *Sockets) add(l *unixListener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.served == nil {
		s.served = map[string]*unixListener{}
	}
	if old, known := s.served[l.at.path]; known && old == nil {
		s.interruptions++ // it may have been away for long: what programs did meanwhile is said from now on
	}
	s.served[l.at.path] = l
}

// lack notes that a socket is not there yet.
func (s *Sockets) lack(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.served == nil {
		s.served = map[string]*unixListener{}
	}
	s.served[path] = nil
}

// look reports whether a socket is still there. mu is held.
func (s *Sockets) look(path string) bool {
	l := s.served[path]
	if l == nil || l.isThere() {
		return l != nil
	}
	s.served[path] = nil
	s.interruptions++
	return false
}

// awaitGone waits until a socket is gone, or ctx ends.
func (s *Sockets) awaitGone(ctx context.Context, path string) {
	tick := time.NewTicker(lookAtSocket)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		there := s.look(path)
		s.mu.Unlock()
		if !there {
			return
		}
	}
}

// Reachable reports whether programs find every socket that is served, and how often that changed since the start.
func (s *Sockets) Reachable() (now bool, interruptions int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now = true
	for path := range s.served {
		now = s.look(path) && now
	}
	return now, s.interruptions
}

// listenAgain makes a socket that is not there, as soon as that works; nil: ctx ended.
func (s *Sockets) listenAgain(ctx context.Context, at Address) *unixListener {
	for said := ""; ctx.Err() == nil; {
		l, err := at.Listen(ctx)
		if err == nil {
			s.log.Warn().Str("address", at.path).Msg("the socket was not there, and was made")
			return l.(*unixListener)
		}
		if said != err.Error() {
			said = err.Error()
			s.log.Error().Err(err).Msg("the socket is not there and can't be made: the agent tries again")
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookAtSocket):
		}
	}
	return nil
}
