package controlplane

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sluice-cd/sluice/engine/plan"
)

// eventsPage is how many decisions are read at once for one who follows.
const eventsPage = 100

// followed hands over requests for /v1/events that ask for a stream; others go on.
func (s *Server) followed(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	if !wantsStream(r) {
		next(ctx)
		return
	}
	s.followEvents(w, r)
}

// followEvents tells decisions as they are found in git: GET /v1/events with Accept: text/event-stream. An event's id is
// its cursor, so that a client that lost its connection goes on with Last-Event-ID, or with since=.
func (s *Server) followEvents(w http.ResponseWriter, r *http.Request) {
	cursor, ok := eventsCursor(r)
	if !ok {
		problem(w, http.StatusBadRequest, "The cursor is not one: give the id of the last event, or leave it out.")
		return
	}
	if s.stopping() || !s.followers.enter() {
		retryAfter(w, 15)
		problem(w, http.StatusServiceUnavailable, "So many follow already that one more is turned away: wait as long as Retry-After says, or ask without a stream.")
		return
	}
	defer s.followers.leave()
	out := newFlusher(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "private, no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	if out.write([]byte(": decisions\n\n")) != nil {
		return
	}
	beat, still := time.NewTicker(heartbeat-beatEvery), time.NewTicker(tokensFor)
	defer beat.Stop()
	defer still.Stop()
	commit := "\x00" // none
	for {
		at := s.board.now()
		if v := at.view; v != nil && v.Desired.Commit != commit { // decisions come with commits
			next, err := s.tellEvents(r, out, cursor)
			if err != nil {
				noteError(w, err)
				return
			}
			commit, cursor = v.Desired.Commit, next
		}
		select {
		case <-at.over:
		case <-r.Context().Done():
			return
		case <-s.drain:
			_ = out.write(comeBack(time.Second)) // an error: it has gone already
			return
		case <-still.C:
			if !s.stillMay(r.Context(), callerOf(r.Context()), s.mux.rows["GET /v1/events"]) {
				return
			}
		case <-beat.C:
			if out.write([]byte(":\n\n")) != nil {
				return
			}
		}
	}
}

// eventsCursor reads where to go on: Last-Event-ID, or else since=; -1: from the last ones.
func eventsCursor(r *http.Request) (int64, bool) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("since")
	}
	if text == "" {
		return -1, true
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= -1
}

// tellEvents writes the decisions after a cursor, and gives the cursor of the last.
func (s *Server) tellEvents(r *http.Request, out flusher, after int64) (int64, error) {
	for {
		found, next, err := s.opts.Journal.Decisions(r.Context(), after, eventsPage)
		if err != nil {
			return after, err
		}
		for i, d := range found {
			b, err := decisionEvent(d, next, i == len(found)-1)
			if err != nil {
				return after, err
			}
			if err := out.write(b); err != nil {
				return after, err
			}
		}
		more := len(found) == eventsPage && after >= 0
		after = next
		if !more {
			return after, nil
		}
	}
}

// decisionEvent is a decision as streams tell it. Only the last one of a page has the cursor as its id: who is cut off in
// between gets some again, and loses none.
func decisionEvent(d plan.Decided, cursor int64, last bool) ([]byte, error) {
	body, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	b := []byte("event: decision\n")
	if last {
		b = append(strconv.AppendInt(append(b, "id: "...), cursor, 10), '\n')
	}
	b = append(append(b, "data: "...), body...)
	return append(b, "\n\n"...), nil
}
