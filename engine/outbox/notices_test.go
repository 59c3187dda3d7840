package outbox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/outbox"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/reach"
	"github.com/sluice-cd/sluice/engine/store"
)

// mailServer is a real SMTP server in this process, which refuses the recipients that its refuse says.
type mailServer struct {
	address string
	refuse  func(to string) error

	mu      sync.Mutex // guards letters
	letters map[string][]string
}

func newMailServer(t *testing.T, refuse func(to string) error) *mailServer {
	t.Helper()
	m := &mailServer{refuse: refuse, letters: map[string][]string{}}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &mailSession{server: m}, nil
	}))
	s.Domain, s.ReadTimeout, s.WriteTimeout = "mail.test", 30*time.Second, 30*time.Second
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.address = l.Addr().String()
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return m
}

func (m *mailServer) lettersTo(to string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.letters[to])
}

type mailSession struct {
	server *mailServer
	to     []string
}

func (s *mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.server.refuse != nil {
		if err := s.server.refuse(to); err != nil {
			return err
		}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for _, to := range s.to {
		s.server.letters[to] = append(s.server.letters[to], string(data))
	}
	return err
}
func (s *mailSession) Reset()        { s.to = nil }
func (s *mailSession) Logout() error { return nil }

// endpoint is the incoming webhook of a chat program.
type endpoint struct {
	*httptest.Server
	mu     sync.Mutex // guards the fields below
	bodies []string
	status int
	header http.Header
}

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	e := &endpoint{status: 200, header: http.Header{}}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.bodies = append(e.bodies, string(body))
		for name, values := range e.header {
			w.Header()[name] = values
		}
		w.WriteHeader(e.status)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) got() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.bodies)
}

func (e *endpoint) setStatus(status int, header ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status, e.header = status, http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		e.header.Set(header[i], header[i+1])
	}
}

// noticeSender sends to the sinks of a text of notices.yaml, with secrets by name.
func noticeSender(t *testing.T, kept *store.Store, text string, secrets map[string]string,
	change func(*outbox.Options)) *testSender {
	t.Helper()
	s, faults := notices.Load(nil, fstest.MapFS{notices.File: {
		Data: []byte("apiVersion: sluice/v1\nkind: Notices\n" + text)}})
	if s == nil {
		t.Fatal(faults)
	}
	return newTestSender(t, kept, func(o *outbox.Options) {
		o.Webhooks, o.Secret = nil, nil
		o.Notices = outbox.NoticeOptions{
			Subscriptions: func() (*notices.Subscriptions, bool) { return s, true },
			Secret: func(name string) (string, error) {
				if secret, ok := secrets[name]; ok {
					return secret + "\n", nil
				}
				return "", errors.New("there is no file " + name)
			}}
		if change != nil {
			change(o)
		}
	})
}

func noticeMessage(t *testing.T, target, thread string, number int) plan.Message {
	t.Helper()
	now := time.Now()
	m, err := outbox.NoticeMessage(notices.Delivery{Target: target, Next: now, Notice: notices.Notice{
		ID: fmt.Sprintf("notice/%s/%d", thread, number), Thread: thread, Number: number, Kind: notices.Halt,
		Severity: notices.Critical, At: now.UTC().Truncate(time.Second), Channel: "dedicated",
		Title: fmt.Sprintf("%s, message %d: <img src=x onerror=alert(1)>", thread, number),
		Lines: []string{"hold: <b>bold</b>"}, Count: 2, Cells: []string{"acme", "beta"}}}, now)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never " + what)
		}
	}
}

func (p *testSender) receipts(t *testing.T, notice string) map[string]notices.Receipt {
	t.Helper()
	found, err := outbox.Receipts(t.Context(), p.store, notice)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]notices.Receipt{}
	for _, r := range found {
		all[r.Target] = r
	}
	return all
}

// A mail server that refuses one recipient: the others get it once, and who waits for it learns which.
func TestMailToSeveral(t *testing.T) {
	t.Parallel()
	m := newMailServer(t, func(to string) error {
		switch to {
		case "gone@example.com":
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such <b>user</b>"}
		case "later@example.com":
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted"}
		}
		return nil
	})
	text := "sinks: {mail: {type: mail, secret: mail, from: Sluice <sluice@example.com>, " +
		"to: [ada@example.com, gone@example.com, later@example.com]}}\n"
	p := noticeSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")), text,
		map[string]string{"mail": "smtp://" + m.address}, nil)
	var all []plan.Message
	for _, to := range []string{"ada@example.com", "gone@example.com", "later@example.com"} {
		all = append(all, noticeMessage(t, notices.Target("mail", to), "rollout", 1))
	}
	p.enqueue(t, all...)
	id := all[0].Event.ID
	await(t, "delivered to one, refused for two", func() bool {
		r := p.receipts(t, id)
		return !r["notices/mail/ada@example.com"].Delivered.IsZero() && r["notices/mail/gone@example.com"].Why != "" &&
			r["notices/mail/later@example.com"].Why != ""
	})
	r := p.receipts(t, id)
	gone, later := r["notices/mail/gone@example.com"], r["notices/mail/later@example.com"]
	if gone.Why != "the mail server answered 550 to the recipient's address" || !gone.Delivered.IsZero() ||
		!gone.Next.IsZero() || // for good
		later.Why != "the mail server answered 451 to the recipient's address" || later.Next.IsZero() {
		t.Errorf("%+v\n%+v", gone, later)
	}
	time.Sleep(200 * time.Millisecond) // many passes
	letters := m.lettersTo("ada@example.com")
	if len(letters) != 1 {
		t.Fatalf("%d letters", len(letters))
	}
	letter, err := mail.ReadMessage(strings.NewReader(letters[0]))
	if err != nil {
		t.Fatal(err)
	}
	h := letter.Header
	if !strings.HasPrefix(h.Get("Content-Type"), "text/plain") || h.Get("References") == "" ||
		h.Get("Auto-Submitted") != "auto-generated" || h.Get("To") != "<ada@example.com>" ||
		!strings.Contains(h.Get("Subject"), "rollout, message 1") || h.Get("Message-Id") == "" {
		t.Errorf("%+v", h)
	}
}

// What is due at one time is one message, in the form of the program that shows it.
func TestChatProgramsGetOneMessage(t *testing.T) {
	t.Parallel()
	slack, teams := newEndpoint(t), newEndpoint(t)
	slack.setStatus(503)
	text := "sinks: {chat: {type: slack, secret: chat}, teams: {type: teams, secret: teams}}\n"
	p := noticeSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")), text,
		map[string]string{"chat": slack.URL + "/T/B/secret", "teams": teams.URL + "/w"}, func(o *outbox.Options) {
			o.Backoff = 300 * time.Millisecond
		})
	var all []plan.Message
	for i := range 60 { // a day's worth: 12 threads
		all = append(all, noticeMessage(t, "notices/chat", fmt.Sprint("thread-", i%12), i/12+1))
	}
	p.enqueue(t, append(all, noticeMessage(t, "notices/teams", "thread", 1))...)
	await(t, "tried", func() bool { return len(slack.got()) > 0 })
	slack.setStatus(200)
	await(t, "delivered", func() bool {
		for _, m := range all {
			if p.receipts(t, m.Event.ID)["notices/chat"].Delivered.IsZero() {
				return false
			}
		}
		return true
	})
	if n := len(slack.got()); n > 8 {
		t.Errorf("60 notices came as %d messages, failed ones among them", n)
	}
	last := strings.Join(slack.got(), "\n")
	for i := range 12 {
		if !strings.Contains(last, fmt.Sprintf("thread-%d, message 5", i)) {
			t.Errorf("the newest of thread-%d is lost", i)
		}
	}
	wantSlackShape(t, slack.got()[0])
	await(t, "in Teams", func() bool { return len(teams.got()) == 1 })
	wantTeamsShape(t, teams.got()[0])
}

func strictly(t *testing.T, body string, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Errorf("%v in %s", err, body)
	}
}

// wantSlackShape checks a body against the schema that is made of Slack's own types, and against Slack's limit.
func wantSlackShape(t *testing.T, body string) {
	t.Helper()
	data, err := os.ReadFile("testdata/slack-message.schema.json")
	var schema struct {
		Properties map[string]struct{ Type string }
	}
	var m map[string]any
	if err == nil {
		err = errors.Join(json.Unmarshal(data, &schema), json.Unmarshal([]byte(body), &m))
	}
	if err != nil || len(schema.Properties) < 10 {
		t.Fatal(err, body)
	}
	for name, value := range m {
		is := map[string]string{"string": "string", "bool": "boolean", "float64": "number"}[fmt.Sprintf("%T", value)]
		if want := schema.Properties[name].Type; want == "" || is != want {
			t.Errorf("%s is a %q, and Slack wants a %q", name, is, want)
		}
	}
	if text, _ := m["text"].(string); text == "" || len(text) > 40_000 || strings.Contains(text, "<") ||
		m["mrkdwn"] != false {
		t.Errorf("%s", body)
	}
}

// wantTeamsShape checks a body against the schema of Adaptive Cards 1.4, for the elements that are used; test/ui has
// Microsoft's own renderer show one.
func wantTeamsShape(t *testing.T, body string) {
	t.Helper()
	type inline struct {
		Type   string `json:"type"`
		Text   string `json:"text"`
		Weight string `json:"weight"`
		Color  string `json:"color"`
	}
	var m struct {
		Type        string `json:"type"`
		Attachments []struct {
			ContentType string  `json:"contentType"`
			ContentURL  *string `json:"contentUrl"`
			Content     struct {
				Schema  string `json:"$schema"`
				Type    string `json:"type"`
				Version string `json:"version"`
				Body    []struct {
					Type      string   `json:"type"`
					Inlines   []inline `json:"inlines"`
					Separator bool     `json:"separator"`
				} `json:"body"`
			} `json:"content"`
		} `json:"attachments"`
	}
	strictly(t, body, &m)
	if m.Type != "message" || len(m.Attachments) != 1 || len(body) > 28<<10 {
		t.Fatal(body)
	}
	a := m.Attachments[0]
	if a.ContentType != "application/vnd.microsoft.card.adaptive" || a.Content.Type != "AdaptiveCard" ||
		a.Content.Version != "1.4" || len(a.Content.Body) == 0 {
		t.Error(body)
	}
	for _, block := range a.Content.Body {
		for _, run := range block.Inlines {
			if block.Type != "RichTextBlock" || run.Type != "TextRun" || run.Text == "" ||
				!slices.Contains([]string{"", "Lighter", "Default", "Bolder"}, run.Weight) ||
				!slices.Contains([]string{"", "Default", "Dark", "Light", "Accent", "Good", "Warning", "Attention"},
					run.Color) {
				t.Errorf("%+v", run)
			}
		}
	}
}

// A webhook of notices gets each notice as one signed CloudEvent.
func TestNoticesAsCloudEvents(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	p := noticeSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")),
		"sinks: {hook: {type: webhook, url: \""+e.URL+"\", secret: hook}}\n", map[string]string{"hook": secret}, nil)
	p.enqueue(t, noticeMessage(t, "notices/hook", "rollout", 1))
	await(t, "delivered", func() bool { return len(e.got()) == 1 })
	var got struct {
		SpecVersion, ID, Source, Type, Subject, DataContentType string
		Time                                                    time.Time
		Data                                                    notices.Notice
	}
	strictly(t, e.got()[0], &got)
	if got.Type != "io.github.sluice-cd.notices.halt" || got.Source != "/sluice/notices" ||
		got.Subject != "dedicated" ||
		got.ID != "notice/rollout/1" || got.Data.Count != 2 || got.Data.Thread != "rollout" {
		t.Errorf("%+v", got)
	}
}

// R53, fault 3 and others: what a sink may do wrong, and what people read about it.
func TestSinksThatMisbehave(t *testing.T) {
	t.Parallel()
	inside := newEndpoint(t)
	hang := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(hang); hanging.Close() })
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	limited, redirecting := newEndpoint(t), newEndpoint(t)
	limited.setStatus(429, "Retry-After", "3600")
	redirecting.setStatus(302, "Location", inside.URL)
	for name, c := range map[string]struct {
		sink, secret, want string
		reach              []string
	}{
		"429":                {"type: slack", limited.URL + "/x", "answered 429 Too Many Requests", nil},
		"hanging":            {"type: slack", hanging.URL + "/x", "did not answer within 300ms", nil},
		"redirects":          {"type: slack", redirecting.URL + "/x", "redirects are not followed", nil},
		"loopback":           {"type: teams", inside.URL + "/x", "is not where webhooks may be", []string{"public"}},
		"a metadata address": {"type: teams", "https://169.254.169.254/latest", "is not where webhooks may be", []string{"public", "private"}},
		"no secret":          {"type: slack", "", "must hold one URL", nil},
		"an http URL":        {"type: slack", "http://hooks.example.com/x", "must hold one URL", nil},
		"mail elsewhere":     {"type: mail, from: a@e.com, to: [b@e.com]", "smtp://127.0.0.1:1", "is not where webhooks may be", []string{"public"}},
		"mail refused":       {"type: mail, from: a@e.com, to: [b@e.com]", "smtp://127.0.0.1:1", "refuses connections", nil},
		"mail hangs":         {"type: mail, from: a@e.com, to: [b@e.com]", "smtp://" + silent.Addr().String(), "did not answer within 300ms", nil},
		"no mail server":     {"type: mail, from: a@e.com, to: [b@e.com]", "mail.example.com", "must hold smtps://", nil},
		"no key":             {"type: webhook, url: \"https://e.com\"", "short", "nothing can be signed", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := noticeSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")),
				"sinks: {s: {"+c.sink+", secret: s}}\n", map[string]string{"s": c.secret}, func(o *outbox.Options) {
					o.Timeout, o.Backoff = 300*time.Millisecond, time.Hour
					if c.reach != nil {
						list, err := reach.Parse(c.reach)
						if err != nil {
							t.Fatal(err)
						}
						o.Reach = list
					}
				})
			target := "notices/s"
			if strings.Contains(c.sink, "mail") {
				target += "/b@e.com"
			}
			p.enqueue(t, noticeMessage(t, target, "rollout", 1))
			await(t, "tried", func() bool { return p.receipts(t, "notice/rollout/1")[target].Why != "" })
			r := p.receipts(t, "notice/rollout/1")[target]
			if !strings.Contains(r.Why, c.want) || !r.Delivered.IsZero() || r.Next.IsZero() {
				t.Errorf("%+v, want %q", r, c.want)
			}
			if name == "429" && time.Until(r.Next) < 55*time.Minute {
				t.Errorf("asked to wait an hour, and tried again at %v", r.Next)
			}
			if c.secret != "" && (strings.Contains(p.log.String(), c.secret) || strings.Contains(r.Why, c.secret)) {
				t.Errorf("the secret is shown: %s", p.log)
			}
		})
	}
	t.Cleanup(func() {
		if n := len(inside.got()); n != 0 {
			t.Errorf("what may not be reached was reached %d times", n)
		}
	})
}

// 410: nothing is sent until the file has another URL; a target that is gone from notices.yaml is given up.
func TestNoticeSinkIsGone(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	e.setStatus(410)
	secrets := map[string]string{"chat": e.URL + "/old"}
	var mu sync.Mutex
	p := noticeSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")), "sinks: {chat: {type: slack, secret: chat}}\n",
		nil, func(o *outbox.Options) {
			o.Notices.Secret = func(name string) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				return secrets[name], nil
			}
		})
	p.enqueue(t, noticeMessage(t, "notices/chat", "one", 1), noticeMessage(t, "notices/other", "one", 1))
	await(t, "given up", func() bool {
		r := p.receipts(t, "notice/one/1")
		return strings.Contains(r["notices/chat"].Why, "410 Gone") && r["notices/chat"].Next.IsZero() &&
			r["notices/other"].Why == "notices.yaml no longer has this sink"
	})
	p.enqueue(t, noticeMessage(t, "notices/chat", "two", 1))
	await(t, "given up", func() bool { return p.receipts(t, "notice/two/1")["notices/chat"].Why != "" })
	if n := len(e.got()); n != 1 {
		t.Errorf("asked %d times", n)
	}
	e.setStatus(200)
	mu.Lock()
	secrets["chat"] = e.URL + "/new"
	mu.Unlock()
	p.enqueue(t, noticeMessage(t, "notices/chat", "three", 1))
	await(t, "delivered", func() bool { return !p.receipts(t, "notice/three/1")["notices/chat"].Delivered.IsZero() })
}

// However much waits for one target, others get theirs.
func TestNoTargetStarvesAnother(t *testing.T) {
	t.Parallel()
	slow, quick := newEndpoint(t), newEndpoint(t)
	slow.setStatus(503)
	p := noticeSender(t, openStore(t, filepath.Join(t.TempDir(), "s.db")),
		"sinks: {slow: {type: webhook, url: \""+slow.URL+"\", secret: hook}, quick: {type: webhook, url: \""+quick.URL+
			"\", secret: hook}}\n", map[string]string{"hook": secret}, nil)
	var all []plan.Message
	for i := range 2_000 {
		all = append(all, noticeMessage(t, "notices/slow", fmt.Sprint("t", i), 1))
	}
	last := noticeMessage(t, "notices/quick", "last", 1)
	last.Next = last.Next.Add(time.Millisecond)
	if _, err := p.store.PostMessages(t.Context(), append(all, last)); err != nil {
		t.Fatal(err)
	}
	due, err := p.store.DueMessages(t.Context(), time.Now().Add(time.Minute), 500)
	if err != nil || !slices.ContainsFunc(due, func(m plan.Message) bool { return m.Webhook == "notices/quick" }) {
		if len(quick.got()) == 0 {
			t.Errorf("among %d due messages none is for the other (%v)", len(due), err)
		}
	}
	p.NotifyPosted()
	await(t, "delivered to the other", func() bool { return len(quick.got()) == 1 })
}
