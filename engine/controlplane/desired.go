package controlplane

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/queryparam"

	"github.com/sluice-cd/sluice/engine"
)

const (
	maxWait    = time.Minute // the longest that a poll waits
	nextPoll   = "Sluice-Next-Poll"
	drainDelay = time.Second // over which waiting polls are let go when the server stops
)

// answers are what one view says to cells, each made when it is first asked for.
type answers struct {
	view   *engine.View
	byCell sync.Map // name → *prepared; only cells that the view has
}

// prepared is the answer to one cell.
type prepared struct {
	once sync.Once
	ok   bool
	etag string

	encode sync.Once // most polls need no more than the ETag
	body   []byte
}

// answers gives those of v, and forgets those of the view before.
func (s *Server) answers(v *engine.View) *answers {
	for {
		current := s.current.Load()
		if current != nil && current.view == v {
			return current
		}
		fresh := &answers{view: v}
		if s.current.CompareAndSwap(current, fresh) {
			return fresh
		}
	}
}

func (a *answers) cell(name string) (*prepared, bool) {
	if a.view.Desired.Cells[name] == nil {
		return nil, false
	}
	found, ok := a.byCell.Load(name)
	if !ok {
		found, _ = a.byCell.LoadOrStore(name, &prepared{})
	}
	p := found.(*prepared)
	p.once.Do(func() { _, p.etag, p.ok = a.view.Cell(name) })
	return p, p.ok
}

func (a *answers) body(name string, p *prepared) []byte {
	p.encode.Do(func() {
		d, _, _ := a.view.Cell(name)
		body, err := json.Marshal(d)
		if err == nil { // values that came from YAML always encode; the ETag is made of the same
			p.body = append(body, '\n')
		}
	})
	return p.body
}

// desired answers GET /v1/desired. With ?wait= it waits while the cell's answer is the one that it has: until
// this cell's ETag changes, not just the view (R31).
func (s *Server) desired(w http.ResponseWriter, r *http.Request) {
	name := queryparam.Get(r.URL.RawQuery, "cell")
	wait, err := waitTime(queryparam.Get(r.URL.RawQuery, "wait"))
	if name == "" || err != nil {
		missing := &huma.ErrorDetail{Location: "query.cell", Message: "name the cell: ?cell=NAME"}
		if name != "" {
			missing = &huma.ErrorDetail{Location: "query.wait", Message: "a time such as 30s, at most 60s"}
		}
		problem(w, http.StatusBadRequest, "The question is not complete.", missing)
		return
	}
	known := r.Header.Get("If-None-Match")
	var timeout <-chan time.Time
	for {
		changed := s.opts.Views.Changed() // before View: what comes in between is seen
		v, ok := s.view(w)
		if !ok {
			return
		}
		a := s.answers(v)
		p, ok := a.cell(name)
		if !ok {
			unknownCell(w)
			return
		}
		if wait == 0 || !matches(known, p.etag) {
			s.tell(w, a, name, p, known, s.again(wait))
			return
		}
		if timeout == nil {
			deadlines(w, wait+answerWithin)
			t := time.NewTimer(wait)
			defer t.Stop()
			timeout = t.C
			s.metrics.waiting.Inc()
			defer s.metrics.waiting.Dec()
		}
		select {
		case <-changed:
		case <-timeout:
			s.tell(w, a, name, p, known, 0)
			return
		case <-s.drain:
			s.letGo(w, r, a, name, p, known)
			return
		case <-r.Context().Done():
			return
		}
	}
}

// again says when to ask again: one that waits, at once; one that does not, a while later.
func (s *Server) again(wait time.Duration) time.Duration {
	if wait > 0 {
		return 0
	}
	return s.opts.Poll
}

// letGo ends a waiting poll because the server stops: some time within drainDelay, and the cell comes back some time after.
func (s *Server) letGo(w http.ResponseWriter, r *http.Request, a *answers, name string, p *prepared, known string) {
	t := time.NewTimer(rand.N(drainDelay))
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
		return
	}
	w.Header().Set("Connection", "close")
	s.tell(w, a, name, p, known, time.Second+rand.N(4*time.Second))
}

func (s *Server) tell(w http.ResponseWriter, a *answers, name string, p *prepared, known string, again time.Duration) {
	h := w.Header()
	h["Etag"] = []string{p.etag}
	h.Set("Cache-Control", "private, no-cache")
	h.Set(nextPoll, strconv.Itoa(int((again+time.Second-1)/time.Second)))
	if matches(known, p.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/json")
	body := a.body(name, p)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // an error: the cell has gone, and asks again
}

// waitTime reads ?wait=: a Go duration or whole seconds, cut at maxWait. Empty: no wait.
func waitTime(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		return min(time.Duration(n)*time.Second, maxWait), nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = strconv.ErrRange
	}
	return min(d, maxWait), err
}

// matches compares If-None-Match with an ETag, weakly, as RFC 9110 section 13.1.2 asks.
func matches(known, etag string) bool {
	for known != "" {
		var one string
		one, known, _ = strings.Cut(known, ",")
		one = strings.TrimSpace(one)
		if one == "*" || strings.TrimPrefix(one, "W/") == etag {
			return true
		}
	}
	return false
}
