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
	maxWait  = time.Minute // the longest that a poll waits
	nextPoll = "Sluice-Next-Poll"

	// DesiredPath is what is asked for most.
	DesiredPath = "/v1/desired"
)

// desired says what is desired of a cell. A poll that nothing changed for takes no lock and reads no store.
type desired struct {
	answers  *answerCache
	fanout   *fanout
	throttle *throttle
	period   time.Duration // in which a cell that does not wait asks once
	headers  headerValues
}

// headerValues are header values that most answers share. Nobody changes them.
type headerValues struct {
	private, json []string
	seconds       [][]string
}

func newHeaderValues() headerValues {
	return headerValues{private: []string{"private, no-cache"}, json: []string{"application/json"}, seconds: numbers(128)}
}

// get answers GET /v1/desired: at once, or with ?wait= when this cell's ETag changes, not just the view (R31), or
// as a stream. The meaning is the same.
func (d *desired) get(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	name := c.Cell
	wait, err := waitTime(queryparam.Get(r.URL.RawQuery, "wait"))
	if name == "" || err != nil {
		missing := &huma.ErrorDetail{Location: "query.cell", Message: "name the cell: ?cell=NAME"}
		if name != "" {
			missing = &huma.ErrorDetail{Location: "query.wait", Message: "a time such as 30s, at most 60s"}
		}
		api.Problem(w, http.StatusBadRequest, "The question is not complete.", missing)
		return
	}
	at := d.answers.latest()
	if at.view == nil {
		api.NotYet(w)
		return
	}
	e := at.entries[name]
	if e == nil {
		api.UnknownCell(w)
		return
	}
	now := d.throttle.now()
	if !d.throttle.within(w, &e.polls, d.throttle.limits.Polls, now, "polls") || !d.throttle.enter(w, e.hash) {
		return
	}
	defer d.throttle.inFlight.Leave()
	switch known := r.Header.Get("If-None-Match"); {
	case api.WantsStream(r):
		d.stream(w, r, c, e)
	case wait > 0 && !d.fanout.stopping.Now():
		d.wait(w, r, c, e, known, wait)
	default:
		d.answer(w, e, known, nextSlot(e.hash, now, d.period))
	}
}

// wait answers once the cell's answer is not the known one any more, or the time is over.
func (d *desired) wait(w http.ResponseWriter, r *http.Request, c *api.Caller, e *cellEntry, known string, wait time.Duration) {
	at := d.answers.latest()
	if tag := at.tagOf(e); tag == nil || !api.Matches(known, tag.etag) {
		d.answer(w, e, known, 0)
		return
	}
	d.throttle.inFlight.Leave()
	defer d.throttle.inFlight.Return()
	api.SetAnswerTime(w, wait+api.AnswerTime)
	l := newWaiter(d.fanout, e, c, known)
	d.fanout.add(e, l)
	defer d.fanout.remove(e, l)
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
		d.answer(w, e, known, limit.Seconds(again))
		return
	case <-r.Context().Done():
		return
	}
	if !d.fanout.auth.Still(c) {
		auth.Unauthorized(w, c.Listener)
		return
	}
	d.answer(w, e, known, 0)
}

// answer answers with what is desired of the cell now. again is in how many seconds it should ask next.
func (d *desired) answer(w http.ResponseWriter, e *cellEntry, known string, again int) {
	at := d.answers.latest()
	tag := at.tagOf(e)
	h := w.Header()
	if again < len(d.headers.seconds) {
		h[nextPoll] = d.headers.seconds[again]
	} else {
		h[nextPoll] = []string{strconv.Itoa(again)}
	}
	h["Cache-Control"] = d.headers.private
	if tag != nil && api.Matches(known, tag.etag) {
		h["Etag"] = tag.header
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body, etag, ok := at.encode(e)
	switch {
	case ok:
		h["Etag"], h["Content-Type"], h["Content-Length"] = []string{etag}, d.headers.json, []string{strconv.Itoa(len(body))}
		_, _ = w.Write(body) // an error: the cell has gone, and asks again
	case at.view == nil:
		api.NotYet(w)
	default:
		api.UnknownCell(w)
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
