package controlplane

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/queryparam"
)

const (
	maxWait  = time.Minute // the longest that a poll waits
	nextPoll = "Sluice-Next-Poll"

	desiredPath = "/v1/desired"
	pollPattern = "GET " + desiredPath
)

// values are header values that most answers share. Nobody changes them.
type values struct {
	private, json []string
	seconds       [][]string
}

func newValues() values {
	return values{private: []string{"private, no-cache"}, json: []string{"application/json"}, seconds: numbers(128)}
}

// desired answers GET /v1/desired: at once, or with ?wait= when this cell's ETag changes, not just the view (R31), or
// as a stream. The meaning is the same.
func (s *Server) desired(w http.ResponseWriter, r *http.Request) {
	name := asking(w, r).cell
	wait, err := waitTime(queryparam.Get(r.URL.RawQuery, "wait"))
	if name == "" || err != nil {
		missing := &huma.ErrorDetail{Location: "query.cell", Message: "name the cell: ?cell=NAME"}
		if name != "" {
			missing = &huma.ErrorDetail{Location: "query.wait", Message: "a time such as 30s, at most 60s"}
		}
		problem(w, http.StatusBadRequest, "The question is not complete.", missing)
		return
	}
	at := s.board.now()
	if at.view == nil {
		notYet(w)
		return
	}
	p := at.places[name]
	if p == nil {
		unknownCell(w)
		return
	}
	if !s.within(w, &p.polls, s.opts.Limits.Polls, "polls") || !s.enter(w, p.hash) {
		return
	}
	defer s.flights.leave()
	switch known := r.Header.Get("If-None-Match"); {
	case wantsStream(r):
		s.stream(w, r, p)
	case wait > 0 && !s.stopping():
		s.wait(w, r, p, known, wait)
	default:
		s.tell(w, p, known, nextSlot(p.hash, s.elapsed(w), s.opts.Poll))
	}
}

// wait answers once the cell's answer is not the known one any more, or the time is over.
func (s *Server) wait(w http.ResponseWriter, r *http.Request, p *place, known string, wait time.Duration) {
	at := s.board.now()
	if said := at.answer(p); said == nil || !matches(known, said.etag) {
		s.tell(w, p, known, 0)
		return
	}
	s.flights.leave()
	defer s.flights.back()
	deadlines(w, wait+answerWithin)
	l := newWaiter(s, p, asking(w, r), known)
	s.fanout.add(p, l)
	defer s.fanout.remove(p, l)
	s.metrics.waiting.Inc()
	defer s.metrics.waiting.Dec()
	l.tell(s.board.now()) // it may have changed before l was there to be told
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-l.woken:
	case <-t.C:
	case again := <-l.going:
		w.Header().Set("Connection", "close")
		s.tell(w, p, known, seconds(again))
		return
	case <-r.Context().Done():
		return
	}
	if !s.still(l.who) {
		unauthorized(w, l.who.door)
		return
	}
	s.tell(w, p, known, 0)
}

// tell answers with what the cell is told now. again is in how many seconds it should ask next.
func (s *Server) tell(w http.ResponseWriter, p *place, known string, again int) {
	at := s.board.now()
	said := at.answer(p)
	h := w.Header()
	if again < len(s.values.seconds) {
		h[nextPoll] = s.values.seconds[again]
	} else {
		h[nextPoll] = []string{strconv.Itoa(again)}
	}
	h["Cache-Control"] = s.values.private
	if said != nil && matches(known, said.etag) {
		h["Etag"] = said.tag
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body, etag, ok := at.encode(p)
	switch {
	case ok:
		h["Etag"], h["Content-Type"], h["Content-Length"] = []string{etag}, s.values.json, []string{strconv.Itoa(len(body))}
		_, _ = w.Write(body) // an error: the cell has gone, and asks again
	case at.view == nil:
		notYet(w)
	default:
		unknownCell(w)
	}
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
