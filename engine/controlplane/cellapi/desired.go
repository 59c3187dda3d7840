package cellapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/queryparam"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
)

const (
	maxWait        = time.Minute // the longest wait of a poll
	nextPollHeader = "Sluice-Next-Poll"

	// DesiredPath is the path of the most frequent request.
	DesiredPath = "/v1/desired"
)

// desiredHandlers serves the cells' desired state. A poll without changes takes no lock and reads no store.
type desiredHandlers struct {
	answers      *answerCache
	fanout       *fanout
	throttle     *throttle
	pollInterval time.Duration // for cells that poll without waiting
	headers      headerValues
}

// headerValues holds header values that most responses share. They are never changed.
type headerValues struct {
	private, json []string
	seconds       [][]string
}

func newHeaderValues() headerValues {
	return headerValues{private: []string{"private, no-cache"}, json: []string{"application/json"},
		seconds: secondsHeaders(128)}
}

// serveDesired answers GET /v1/desired: at once, with ?wait= once this cell's ETag changes (R31), or as a stream.
func (d *desiredHandlers) serveDesired(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	name := c.Cell
	wait, err := parseWait(queryparam.Get(r.URL.RawQuery, "wait"))
	if name == "" || err != nil {
		missing := &huma.ErrorDetail{Location: "query.cell", Message: "name the cell: ?cell=NAME"}
		if name != "" {
			missing = &huma.ErrorDetail{Location: "query.wait", Message: "a duration such as 30s, at most 60s"}
		}
		api.WriteProblem(w, http.StatusBadRequest, "The request is incomplete or invalid.", missing)
		return
	}
	snap := d.answers.latest()
	if snap.view == nil {
		api.WriteNotReady(w)
		return
	}
	e := snap.entries[name]
	if e == nil {
		api.WriteUnknownCell(w)
		return
	}
	now := d.throttle.now()
	if !d.throttle.allow(w, &e.pollBucket, d.throttle.limits.Polls, now, "polls") || !d.throttle.admit(w, e.hash) {
		return
	}
	defer d.throttle.inFlight.Release()
	switch known := r.Header.Get("If-None-Match"); {
	case api.WantsStream(r):
		d.serveStream(w, r, c, e)
	case wait > 0 && !d.fanout.shutdown.Begun():
		d.serveLongPoll(w, r, c, e, known, wait)
	default:
		d.respond(w, e, known, nextPollSeconds(e.hash, now, d.pollInterval))
	}
}

// serveLongPoll responds once the cell's ETag is not the known one, or after the wait.
func (d *desiredHandlers) serveLongPoll(
	w http.ResponseWriter, r *http.Request, c *api.Caller, e *cellEntry, known string, wait time.Duration,
) {
	snap := d.answers.latest()
	if tag := snap.tagFor(e); tag == nil || !api.MatchesETag(known, tag.etag) {
		d.respond(w, e, known, 0)
		return
	}
	d.throttle.inFlight.Release()
	defer d.throttle.inFlight.Reacquire()
	api.SetWriteTimeout(w, wait+api.ResponseTimeout)
	l := newWaiter(d.fanout, e, c, known)
	d.fanout.subscribe(e, l)
	defer d.fanout.unsubscribe(e, l)
	d.fanout.metrics.LongPolls.Inc()
	defer d.fanout.metrics.LongPolls.Dec()
	l.notify(d.answers.latest()) // the answer may have changed before the subscription
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-l.woken:
	case <-t.C:
	case retryAfter := <-l.closing:
		w.Header().Set("Connection", "close")
		d.respond(w, e, known, limit.CeilSeconds(retryAfter))
		return
	case <-r.Context().Done():
		return
	}
	if !d.fanout.auth.StillAllowsCell(c) {
		auth.WriteUnauthorized(w, c.Listener)
		return
	}
	d.respond(w, e, known, 0)
}

// respond writes the cell's answer, or 304. The cell should poll again after retryAfter seconds.
func (d *desiredHandlers) respond(w http.ResponseWriter, e *cellEntry, known string, retryAfter int) {
	snap := d.answers.latest()
	tag := snap.tagFor(e)
	h := w.Header()
	if retryAfter < len(d.headers.seconds) {
		h[nextPollHeader] = d.headers.seconds[retryAfter]
	} else {
		h[nextPollHeader] = []string{strconv.Itoa(retryAfter)}
	}
	h["Cache-Control"] = d.headers.private
	if tag != nil && api.MatchesETag(known, tag.etag) {
		h["Etag"] = tag.header[:]
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body, etag, ok := snap.encodeAnswer(e)
	switch {
	case ok:
		h["Etag"], h["Content-Type"], h["Content-Length"] = []string{etag}, d.headers.json,
			[]string{strconv.Itoa(len(body))}
		_, _ = w.Write(body) // after an error the cell polls again
	case snap.view == nil:
		api.WriteNotReady(w)
	default:
		api.WriteUnknownCell(w)
	}
}

// parseWait parses ?wait=, a Go duration or whole seconds, limited to maxWait. Empty means no wait.
func parseWait(text string) (time.Duration, error) {
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
