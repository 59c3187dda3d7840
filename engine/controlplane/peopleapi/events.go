package peopleapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/plan"
)

// decisionsPage is how many decisions a stream reads at once.
const decisionsPage = 100

// Journal returns at most limit decisions after a cursor, and the cursor of the last one. A negative cursor asks for
// the latest.
type Journal interface {
	Decisions(ctx context.Context, after int64, limit int) (found []plan.Decided, next int64, err error)
}

// eventHandlers serves the engine's decisions, by pages and as a stream.
type eventHandlers struct {
	views     api.Views
	journal   Journal
	auth      *auth.Auth
	followers limit.InFlight
	shutdown  api.Shutdown
	log       zerolog.Logger
}

type eventsInput struct {
	Since int64 `query:"since" minimum:"-1" default:"-1" doc:"decisions after this cursor; default: the latest"`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

// Events is a page of decisions, in the order in which they were found in git.
type Events struct {
	Decisions []plan.Decided `json:"decisions"`
	Next      int64          `json:"next" doc:"since= of the next request"`
}

type eventsOutput struct{ Body Events }

func (e *eventHandlers) listEvents(ctx context.Context, in *eventsInput) (*eventsOutput, error) {
	found, next, err := e.journal.Decisions(ctx, in.Since, in.Limit)
	if err != nil {
		status, detail, unexpected := api.DescribeError(err)
		if unexpected {
			e.log.Error().Err(err).Msg("read decisions")
		}
		return nil, huma.NewError(status, detail)
	}
	if found == nil {
		found = []plan.Decided{}
	}
	return &eventsOutput{Body: Events{Decisions: found, Next: next}}, nil
}

// streamMiddleware serves requests for /v1/events that ask for a stream, and passes others on.
func (e *eventHandlers) streamMiddleware(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	if !api.WantsStream(r) {
		next(ctx)
		return
	}
	e.streamEvents(w, r)
}

// streamEvents answers GET /v1/events with Accept: text/event-stream. An event's id is its cursor, so that a client can
// resume with Last-Event-ID or since=.
func (e *eventHandlers) streamEvents(w http.ResponseWriter, r *http.Request) {
	cursor, ok := parseCursor(r)
	if !ok {
		api.WriteProblem(w, http.StatusBadRequest, "The cursor is invalid: use the id of the last event, or omit it.")
		return
	}
	if e.shutdown.Begun() || !e.followers.Acquire() {
		api.SetRetryAfter(w, 15)
		api.WriteProblem(w, http.StatusServiceUnavailable,
			"Too many clients follow already: retry after the time in Retry-After, or ask without a stream.")
		return
	}
	defer e.followers.Release()
	out := api.NewEventWriter(w)
	if out.Write([]byte(": decisions\n\n")) != nil {
		return
	}
	beat, still := time.NewTicker(api.Heartbeat-time.Second), time.NewTicker(auth.TokenMaxAge)
	defer beat.Stop()
	defer still.Stop()
	commit := "\x00" // no commit
	for {
		changed := e.views.Changed()                                     // before View, to miss no change
		if v := e.views.View(); v != nil && v.Desired.Commit != commit { // decisions are commits
			next, err := e.writeDecisions(r, out, cursor)
			if err != nil {
				api.NoteError(w, err)
				return
			}
			commit, cursor = v.Desired.Commit, next
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		case <-e.shutdown:
			_ = out.Write(api.RetryEvent(time.Second)) // an error means that the client has gone
			return
		case <-still.C:
			if !e.auth.StillAllowsRole(r.Context(), api.CallerOf(r.Context()), api.Viewer) {
				return
			}
		case <-beat.C:
			if out.Write([]byte(":\n\n")) != nil {
				return
			}
		}
	}
}

// parseCursor returns the cursor in Last-Event-ID, or else in since=, or -1 for the latest decisions.
func parseCursor(r *http.Request) (int64, bool) {
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

// writeDecisions writes the decisions after a cursor, and returns the cursor of the last one.
func (e *eventHandlers) writeDecisions(r *http.Request, out api.EventWriter, after int64) (int64, error) {
	for {
		found, next, err := e.journal.Decisions(r.Context(), after, decisionsPage)
		if err != nil {
			return after, err
		}
		for i, d := range found {
			b, err := encodeDecision(d, next, i == len(found)-1)
			if err != nil {
				return after, err
			}
			if err := out.Write(b); err != nil {
				return after, err
			}
		}
		more := len(found) == decisionsPage && after >= 0
		after = next
		if !more {
			return after, nil
		}
	}
}

// encodeDecision returns a decision as an event. Only the last event of a page has the cursor as its id: a client that
// is cut off in between receives some events again, and misses none.
func encodeDecision(d plan.Decided, cursor int64, last bool) ([]byte, error) {
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
