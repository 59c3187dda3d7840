package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
)

// problem answers with problem+json. detail is for people: what is wrong, and what to do next.
func problem(w http.ResponseWriter, status int, detail string, faults ...*huma.ErrorDetail) {
	h := w.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "ETag", "Accept-Ranges", "Cache-Control"} { // of the answer that did not come about
		h.Del(name)
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// An error here means that the client has gone.
	_ = json.NewEncoder(w).Encode(&huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail, Errors: faults})
}

// notYet answers while nothing has been read.
func notYet(w http.ResponseWriter) {
	retryAfter(w, 2)
	problem(w, http.StatusServiceUnavailable, notRead)
}

const notRead = "The release repository has not been read yet: ask again in a moment, or see the log of sluice serve."

func unknownCell(w http.ResponseWriter) {
	problem(w, http.StatusNotFound, "The release repository has no such cell: add cells/NAME/cell.yaml, or check the name.")
}

func retryAfter(w http.ResponseWriter, seconds int) {
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
}

// fail answers with what an error from inside means, in words that are safe to show, and tells whether it
// is one for the log too.
func fail(w http.ResponseWriter, err error) (unexpected bool) {
	status, detail, unexpected := explain(err)
	if status == http.StatusServiceUnavailable {
		retryAfter(w, 2)
	}
	problem(w, status, detail)
	return unexpected
}

func explain(err error) (status int, detail string, unexpected bool) {
	switch {
	case errors.Is(err, engine.ErrUnknownCell):
		return http.StatusNotFound, "The release repository has no such cell: add cells/NAME/cell.yaml, or check the name.", false
	case errors.Is(err, engine.ErrNotReady):
		return http.StatusServiceUnavailable, notRead, false
	case errors.Is(err, plan.ErrBusy):
		return http.StatusServiceUnavailable, "The store is busy, and nothing was kept: send it again.", true
	case errors.Is(err, plan.ErrFull):
		return http.StatusInsufficientStorage, "The control plane's disk is full, and nothing was kept: make room in its data folder, and send it again.", true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, "It took too long, and whether it was kept is not known: send it again.", false
	}
	return http.StatusInternalServerError, "Something went wrong in the control plane: its log says what, under this answer's X-Request-Id.", true
}

// unmatched answers where no route does, saying what would be allowed.
func (s *Server) unmatched(w http.ResponseWriter, r *http.Request) {
	d := doorElse
	if a, ok := w.(*answer); ok {
		d = a.door
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		_, pattern := s.mux.Handler(probe)
		if row, ok := s.mux.rows[pattern]; ok && row.behind(d, s.opts.Keys != nil) {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		problem(w, http.StatusNotFound, "There is nothing at this path: /openapi.json lists what there is.")
		return
	}
	for _, method := range allowed {
		w.Header().Add("Allow", method)
	}
	problem(w, http.StatusMethodNotAllowed, "This path does not take "+strconv.Quote(r.Method)+": see the Allow header.")
}
