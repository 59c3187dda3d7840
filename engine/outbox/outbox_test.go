package outbox_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/outbox"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/reach"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// receiver is a webhook that validates messages by the standards alone, as its makers would.
type receiver struct {
	*httptest.Server
	t *testing.T

	mu     sync.Mutex // guards the fields below
	got    []received // in order
	answer func(w http.ResponseWriter, r *http.Request, nth int)
}

type received struct {
	id    string // header
	event announce.Event
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // the connection was cut off
	}
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	id, stamp := q.Header.Get("webhook-id"), q.Header.Get("webhook-timestamp")
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); q.Header.Get("webhook-signature") != want ||
		id == "" || strings.Contains(id, ".") {
		r.t.Errorf("signature %q, want %q", q.Header.Get("webhook-signature"), want)
	}
	var e struct {
		SpecVersion, ID, Source, Type, Subject, DataContentType string
		Time                                                    time.Time
		Data                                                    announce.Event
	}
	if err := json.Unmarshal(body, &e); err != nil || e.SpecVersion != "1.0" || e.ID == "" || e.Source == "" ||
		e.DataContentType != "application/json" ||
		e.Type != "io.github.sluice-cd.flags."+e.Data.Type || e.ID != e.Data.ID || !e.Time.Equal(e.Data.At) ||
		q.Method != http.MethodPost || !strings.HasPrefix(q.Header.Get("Content-Type"),
		"application/cloudevents+json") {
		r.t.Errorf("not a CloudEvent: %s (%v)", body, err)
	}
	r.mu.Lock()
	r.got = append(r.got, received{id, e.Data})
	nth, answer := len(r.got), r.answer
	r.mu.Unlock()
	if answer != nil {
		answer(w, q, nth)
	}
}

// setAnswer makes the webhook answer otherwise from now on.
func (r *receiver) setAnswer(f func(w http.ResponseWriter, r *http.Request, nth int)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func (r *receiver) messages() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// wantMessages waits until n messages arrived.
func (r *receiver) wantMessages(n int) []received {
	r.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		got := r.messages()
		if len(got) >= n || time.Now().After(end) {
			if len(got) < n {
				r.t.Fatalf("%d messages came in, want %d", len(got), n)
			}
			return got
		}
	}
}

// testSender is a sender over a real store.
type testSender struct {
	*outbox.Sender
	store *store.Store
	hooks atomic.Pointer[[]repository.Webhook]
	log   *lockedBuffer
	stop  func() // waits until the sender has ended
}

func openStore(t *testing.T, file string) *store.Store {
	t.Helper()
	kept, err := store.OpenWith(t.Context(), file, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	return kept
}

func newTestSender(t *testing.T, kept *store.Store, change func(*outbox.Options),
	hooks ...repository.Webhook) *testSender {
	t.Helper()
	p := &testSender{store: kept, log: &lockedBuffer{}}
	p.hooks.Store(&hooks)
	local, err := reach.Parse([]string{"loopback", "localhost", "private"})
	if err != nil {
		t.Fatal(err)
	}
	o := outbox.Options{
		Reach: local, Store: kept, Webhooks: func() ([]repository.Webhook, bool) { return *p.hooks.Load(), true },
		Secret: func(string) (string, error) { return secret, nil },
		Log:    zerolog.New(p.log), Timeout: 5 * time.Second, Poll: 10 * time.Millisecond,
		Backoff: 20 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	if p.Sender, err = outbox.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(p.stop)
	return p
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func message(id, webhook string, posted time.Time) plan.Message {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	return plan.Message{Event: announce.Event{ID: id, Type: "published", Announcement: "classes", At: at,
		Text: "it is out"}, Webhook: webhook, Posted: posted, Next: posted}
}

func (p *testSender) enqueue(t *testing.T, messages ...plan.Message) {
	t.Helper()
	fresh, err := p.store.PostMessages(t.Context(), messages)
	if err != nil || len(fresh) == 0 {
		t.Fatalf("posted %v (%v)", fresh, err)
	}
	p.NotifyPosted()
}

// wantState waits until the webhook's state is as it should be.
func (p *testSender) wantState(t *testing.T, what string, is func(outbox.State) bool) outbox.State {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		states, err := outbox.ReadStates(t.Context(), p.store, *p.hooks.Load())
		if err != nil {
			t.Fatal(err)
		}
		if is(states[0]) {
			return states[0]
		}
		if time.Now().After(end) {
			t.Fatalf("never %s: %+v\n%s", what, states[0], p.log)
		}
	}
}

func arrived(s outbox.State) bool { return s.Waiting == 0 && !s.LastSuccess.IsZero() }

func TestSends(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := newTestSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")), nil,
		repository.Webhook{Name: "chat", URL: r.URL + "/secret-path?token=x"})
	p.enqueue(t, message("published/classes", "chat", time.Now()))
	got := r.wantMessages(1)
	s := p.wantState(t, "sent", arrived)
	if got[0].id != outbox.MessageID("published/classes") || got[0].event.Text != "it is out" {
		t.Errorf("%+v", got[0])
	}
	if s.Name != "chat" || s.Host != strings.TrimPrefix(r.URL, "http://") || s.LastError != "" || s.GivenUp != 0 {
		t.Errorf("%+v", s)
	}
	time.Sleep(100 * time.Millisecond)
	if n := len(r.messages()); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

// failingOutbox is a store whose process dies, or whose disk fills, after sending and before storing the outcome.
type failingOutbox struct {
	engine.Outbox
	fails atomic.Bool
}

func (f *failingOutbox) MarkSent(ctx context.Context, m plan.Message) error {
	if f.fails.Load() {
		return plan.ErrFull
	}
	return f.Outbox.MarkSent(ctx, m)
}

// Fault 3: a crash between the answer and storing the outcome: the message comes again, under the same id.
func TestSentAgainAfterACrash(t *testing.T) {
	t.Parallel()
	r, file := newReceiver(t), filepath.Join(t.TempDir(), "s.db")
	hook := repository.Webhook{Name: "chat", URL: r.URL}
	kept := openStore(t, file)
	full := &failingOutbox{Outbox: kept}
	full.fails.Store(true)
	p := newTestSender(t, kept, func(o *outbox.Options) { o.Store = full }, hook)
	p.enqueue(t, message("e1", "chat", time.Now()))
	r.wantMessages(1)
	await(t, "it says so", func() bool { return strings.Contains(p.log.String(), "could not be stored yet") })
	time.Sleep(200 * time.Millisecond) // many passes
	if n := len(r.messages()); n != 1 {
		t.Errorf("while it can't be written down it was sent %d times", n)
	}
	p.stop()
	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}
	again := newTestSender(t, openStore(t, file), nil, hook)
	got := r.wantMessages(2)
	again.wantState(t, "sent", arrived)
	if got[0].id != got[1].id || got[0].event != got[1].event {
		t.Errorf("another message: %+v", got)
	}
	if strings.Contains(p.log.String(), "panic") {
		t.Error(p.log)
	}
}

// An outcome that could not be stored is stored later, and the message is not sent again.
func TestWrittenDownLater(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	kept := openStore(t, filepath.Join(t.TempDir(), "s.db"))
	full := &failingOutbox{Outbox: kept}
	full.fails.Store(true)
	p := newTestSender(t, kept, func(o *outbox.Options) { o.Store = full },
		repository.Webhook{Name: "chat", URL: r.URL})
	p.enqueue(t, message("e1", "chat", time.Now()))
	r.wantMessages(1)
	full.fails.Store(false)
	p.wantState(t, "sent", arrived)
	if n := len(r.messages()); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

// A webhook that is down is retried until it is up, and delays no other webhook.
func TestReceiverDownThenUp(t *testing.T) {
	t.Parallel()
	down, up := newReceiver(t), newReceiver(t)
	down.setAnswer(func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusServiceUnavailable) })
	address := down.URL
	p := newTestSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")), nil,
		repository.Webhook{Name: "down", URL: address}, repository.Webhook{Name: "up", URL: up.URL})
	var all []plan.Message
	for n := range 40 {
		all = append(all, message(fmt.Sprint("e", n), "down", time.Now()),
			message(fmt.Sprint("e", n), "up", time.Now()))
	}
	p.enqueue(t, all...)
	up.wantMessages(40)
	s := p.wantState(t, "waiting", func(s outbox.State) bool { return s.LastError != "" })
	if s.Waiting != 40 || s.LastError != "answered 503 Service Unavailable" || s.Oldest.IsZero() {
		t.Errorf("%+v", s)
	}
	if n := len(down.messages()); n > 20 {
		t.Errorf("who is down was asked %d times: those behind wait as well", n)
	}
	down.setAnswer(nil)
	p.wantState(t, "sent", arrived)
	seen := map[string]bool{}
	for _, m := range down.messages() {
		seen[m.event.ID] = true
	}
	if len(seen) != 40 {
		t.Errorf("%d of 40 messages arrived", len(seen))
	}
}

// A message that a webhook rejects delays no other message.
func TestBadDataFailsOnlyItsReport(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.setAnswer(func(w http.ResponseWriter, _ *http.Request, nth int) {
		if nth == 1 {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})
	p := newTestSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")),
		func(o *outbox.Options) { o.Backoff = time.Hour }, repository.Webhook{Name: "chat", URL: r.URL})
	p.enqueue(t, message("e1", "chat", time.Now()), message("e2", "chat", time.Now()),
		message("e3", "chat", time.Now()))
	r.wantMessages(3)
	s := p.wantState(t, "two sent", func(s outbox.State) bool { return s.Waiting == 1 })
	if !strings.Contains(s.LastError, "413") {
		t.Errorf("%+v", s)
	}
}

// 410 stops messages to the webhook until its URL changes.
func TestGone(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.setAnswer(func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusGone) })
	p := newTestSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")), nil,
		repository.Webhook{Name: "chat", URL: r.URL})
	p.enqueue(t, message("e1", "chat", time.Now()), message("e2", "chat", time.Now()))
	p.wantState(t, "given up", func(s outbox.State) bool {
		return s.GivenUp == 2 && s.Waiting == 0 && strings.Contains(s.LastError, "410")
	})
	p.enqueue(t, message("e3", "chat", time.Now()))
	p.wantState(t, "given up", func(s outbox.State) bool { return s.GivenUp == 3 })
	if n := len(r.messages()); n != 1 {
		t.Errorf("who is gone was asked %d times", n)
	}
	r.setAnswer(nil)
	p.hooks.Store(&[]repository.Webhook{{Name: "chat", URL: r.URL + "/new"}})
	p.enqueue(t, message("e4", "chat", time.Now()))
	r.wantMessages(2)
}

// A webhook's answer costs little, leads nowhere, and its text and address are shown to nobody.
func TestStrangeAnswers(t *testing.T) {
	t.Parallel()
	elsewhere := newReceiver(t)
	refused := httptest.NewServer(nil)
	refused.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, nth int)
		url    string // another one than the receiver's
		secret error
		why    string // empty: it counts as sent
	}{
		"redirect": {answer: func(w http.ResponseWriter, r *http.Request, _ int) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, why: "answered 307 Temporary Redirect: redirects are not followed"},
		"error with text": {answer: func(w http.ResponseWriter, _ *http.Request,
			_ int) {
			http.Error(w, "private words", 500)
		}, why: "answered 500 Internal Server Error"},
		"too slow": {answer: func(_ http.ResponseWriter, r *http.Request, _ int) { <-r.Context().Done() },
			why: "did not answer within 300ms"},
		"endless": {answer: endless},
		"huge header": {answer: func(w http.ResponseWriter, _ *http.Request,
			_ int) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		}, why: "can't be reached"},
		"hangs up": {answer: func(http.ResponseWriter, *http.Request, int) { panic(http.ErrAbortHandler) },
			why: "can't be reached"},
		"refuses":     {url: refused.URL + "/secret-path", why: "refuses connections"},
		"not trusted": {url: untrusted.URL + "/secret-path", why: "its certificate is invalid"},
		"no URL":      {url: "http://[::1", why: "its URL is invalid"},
		"no secret": {secret: errors.New("set $SLUICE_WEBHOOK_SECRET_CHAT"),
			why: "gets no messages, since nothing can be signed: set $SLUICE_WEBHOOK_SECRET_CHAT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			r.setAnswer(c.answer)
			if c.url == "" {
				c.url = r.URL
			}
			p := newTestSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")), func(o *outbox.Options) {
				o.Timeout, o.Backoff = 20*time.Second, time.Hour
				if name == "too slow" {
					o.Timeout = 300 * time.Millisecond
				}
				if c.secret != nil {
					o.Secret = func(string) (string, error) { return "", c.secret }
				}
			}, repository.Webhook{Name: "chat", URL: c.url})
			p.enqueue(t, message("e1", "chat", time.Now()))
			if c.why == "" {
				p.wantState(t, "sent", arrived)
				return
			}
			s := p.wantState(t, "failed", func(s outbox.State) bool { return s.LastError != "" })
			if !strings.HasPrefix(s.LastError, c.why) || s.Waiting != 1 ||
				s.Next.Before(time.Now().Add(20*time.Minute)) {
				t.Errorf("%+v, want %s", s, c.why)
			}
			for _, private := range []string{"private", "secret-path", "127.0.0.1"} {
				if strings.Contains(s.LastError, private) {
					t.Errorf("%q is shown", s.LastError)
				}
			}
			if strings.Contains(p.log.String(), "secret-path") {
				t.Errorf("the log tells the address: %s", p.log)
			}
		})
	}
	t.Cleanup(func() {
		if n := len(elsewhere.messages()); n != 0 {
			t.Errorf("a redirect was followed %d times", n)
		}
	})
}

func endless(w http.ResponseWriter, _ *http.Request, _ int) {
	for {
		if _, err := w.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
}

// Retry-After is respected, and a message is given up after three days.
func TestPatience(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.setAnswer(func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.Header().Set("Retry-After", "7200")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	p := newTestSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")), nil,
		repository.Webhook{Name: "chat", URL: r.URL})
	p.enqueue(t, message("e1", "chat", time.Now()))
	s := p.wantState(t, "failed", func(s outbox.State) bool { return s.LastError != "" })
	if wait := time.Until(s.Next); wait < 110*time.Minute || wait > 2*time.Hour {
		t.Errorf("it is tried again in %v", wait)
	}
	p.enqueue(t, message("e2", "chat", time.Now().Add(-outbox.Patience+time.Hour)))
	s = p.wantState(t, "given up", func(s outbox.State) bool { return s.GivenUp == 1 })
	if s.Waiting != 1 || !strings.Contains(s.LastError, "given up after 3 days") {
		t.Errorf("%+v", s)
	}
}

// Only the leader sends; a webhook that was removed gets no messages, and messages wait while the webhooks are unknown.
func TestOnlyTheLeaderSends(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	var leads, known atomic.Bool
	hook := repository.Webhook{Name: "chat", URL: r.URL}
	p := newTestSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")), func(o *outbox.Options) {
		o.Leads = leads.Load
		read := o.Webhooks
		o.Webhooks = func() ([]repository.Webhook, bool) {
			all, _ := read()
			return all[:1], known.Load()
		}
	}, hook, repository.Webhook{Name: "removed"})
	p.enqueue(t, message("e1", "chat", time.Now()), message("e1", "removed", time.Now()))
	time.Sleep(200 * time.Millisecond)
	leads.Store(true)
	time.Sleep(200 * time.Millisecond)
	if n := len(r.messages()); n != 0 {
		t.Fatalf("sent %d", n)
	}
	known.Store(true)
	r.wantMessages(1)
	p.wantState(t, "sent", arrived)
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		states, err := outbox.ReadStates(t.Context(), p.store, *p.hooks.Load())
		if err != nil || time.Now().After(end) {
			t.Fatalf("%+v (%v)", states, err)
		}
		if states[1].GivenUp == 1 && strings.Contains(states[1].LastError, "no longer have this webhook") {
			break
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.setAnswer(func(w http.ResponseWriter, _ *http.Request, nth int) {
		if nth > 1 {
			w.WriteHeader(500)
		}
	})
	p := newTestSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")),
		func(o *outbox.Options) { o.Backoff = time.Hour }, repository.Webhook{Name: "chat", URL: r.URL})
	p.enqueue(t, message("e1", "chat", time.Now().Add(-time.Minute)),
		message("e2", "chat", time.Now().Add(-time.Minute)))
	p.wantState(t, "failed", func(s outbox.State) bool { return s.LastError != "" && !s.LastSuccess.IsZero() })
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(p.Collector())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			got[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	if got["sluice_webhook_sent_total"] != 1 || got["sluice_webhook_failed_total"] != 1 ||
		got["sluice_webhook_waiting"] != 1 || got["sluice_webhook_oldest_seconds"] < 59 ||
		got["sluice_webhook_given_up"] != 0 {
		t.Errorf("%v", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	if _, err := outbox.New(outbox.Options{}); err == nil {
		t.Error("no options are needed")
	}
}

// R53: without a list, messages go to public addresses only, and nothing arrives elsewhere.
func TestR53WebhooksOutsideTheListGetNothing(t *testing.T) {
	r := newReceiver(t)
	p := newTestSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")), func(o *outbox.Options) {
		o.Backoff = time.Hour
		var err error
		if o.Reach, err = reach.Parse([]string{reach.Default}); err != nil {
			t.Fatal(err)
		}
	}, repository.Webhook{Name: "chat", URL: r.URL})
	p.enqueue(t, message("e1", "chat", time.Now()))
	s := p.wantState(t, "failed", func(s outbox.State) bool { return s.LastError != "" })
	if !strings.Contains(s.LastError, "--webhooks-reach") || strings.Contains(s.LastError, "127.0.0.1") {
		t.Errorf("%q", s.LastError)
	}
	if got := r.messages(); len(got) != 0 {
		t.Errorf("%d messages arrived", len(got))
	}
}
