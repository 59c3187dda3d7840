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
	maxWait        = time.Minute // the longest that a poll waits
	nextPollHeader = "Sluice-Next-Poll"

	// DesiredPath is what is asked for most.
	DesiredPath = "/v1/desired"
)

// desiredHandlers says what is desired of a cell. A poll that nothing changed for takes no lock and reads no store.
type desiredHandlers struct {
	answers      *answerCache
	fanout       *fanout
	throttle     *throttle
	pollInterval time.Duration // in which a cell that does not wait asks once
	headers      headerValues
}

// headerValues are header values that most answers share. Nobody changes them.
type headerValues struct {
	private, json []string
	seconds       [][]string
}

func newHeaderValues() headerValues {
	return headerValues{private: []string{"private, no-cache"}, json: []string{"application/json"}, seconds: secondsHeaders(128)}
}

// serveDesired answers GET /v1/desired: at once, or with ?wait= when this cell's ETag changes, not just the view (R31), or
// as a stream. The meaning is the same.
func (d *desiredHandlers) serveDesired(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	name := c.Cell
	wait, err := parseWait(queryparam.Get(r.URL.RawQuery, "wait"))
	if name == "" || err != nil {
		missing := &huma.ErrorDetail{Location: "query.cell", Message: "name the cell: ?cell=NAME"}
		if name != "" {
			missing = &huma.ErrorDetail{Location: "query.wait", Message: "a time such as 30s, at most 60s"}
		}
		api.WriteProblem(w, http.StatusBadRequest, "The question is not complete.", missing)
		return
	}
	at := d.answers.latest()
	if at.view == nil {
		api.WriteNotReady(w)
		return
	}
	e := at.entries[name]
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

// serveLongPoll answers once the cell's answer is not the known one any more, or the time is over.
func (d *desiredHandlers) serveLongPoll(w http.ResponseWriter, r *http.Request, c *api.Caller, e *cellEntry, known string, wait time.Duration) {
	at := d.answers.latest()
	if tag := at.tagFor(e); tag == nil || !api.MatchesETag(known, tag.etag) {
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
	l.notify(d.answers.latest()) // it may have changed before l was there to be told
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-l.woken:
	case <-t.C:
	case again := <-l.closing:
		w.Header().Set("Connection", "close")
		d.respond(w, e, known, limit.CeilSeconds(again))
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

// respond answers with what is desired of the cell now. again is in how many seconds it should ask next.
func (d *desiredHandlers) respond(w http.ResponseWriter, e *cellEntry, known string, again int) {
	at := d.answers.latest()
	tag := at.tagFor(e)
	h := w.Header()
	if again < len(d.headers.seconds) {
		h[nextPollHeader] = d.headers.seconds[again]
	} else {
		h[nextPollHeader] = []string{strconv.Itoa(again)}
	}
	h["Cache-Control"] = d.headers.private
	if tag != nil && api.MatchesETag(known, tag.etag) {
		h["Etag"] = tag.header
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body, etag, ok := at.encodeAnswer(e)
	switch {
	case ok:
		h["Etag"], h["Content-Type"], h["Content-Length"] = []string{etag}, d.headers.json, []string{strconv.Itoa(len(body))}
		_, _ = w.Write(body) // an error: the cell has gone, and asks again
	case at.view == nil:
		api.WriteNotReady(w)
	default:
		api.WriteUnknownCell(w)
	}
}

// parseWait reads ?wait=: a Go duration or whole seconds, cut at maxWait. Empty: no wait.
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
