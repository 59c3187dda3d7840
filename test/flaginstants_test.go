package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
)

// webhookRecorder is a webhook that records messages. It kills a process once, before it answers a message of a type.
type webhookRecorder struct {
	*httptest.Server

	mu       sync.Mutex // guards what follows
	ids      map[string]map[string]int
	killType string
	pid      int
}

func newWebhookRecorder(t *testing.T) *webhookRecorder {
	t.Helper()
	b := &webhookRecorder{ids: map[string]map[string]int{}}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *webhookRecorder) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var e struct{ ID, Type string }
	if json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<20)).Decode(&e) != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ids[e.ID] == nil {
		b.ids[e.ID] = map[string]int{}
	}
	b.ids[e.ID][r.Header.Get("Webhook-Id")]++
	if b.killType != "" && strings.HasSuffix(e.Type, "."+b.killType) {
		b.killType = ""
		_ = syscall.Kill(b.pid, syscall.SIGKILL)
	}
}

// received returns how many events came whose IDs begin with kind, and the Webhook-Ids of one of them, with counts.
func (b *webhookRecorder) received(kind string) (events int, ids map[string]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, of := range b.ids {
		if strings.HasPrefix(id, kind) {
			events, ids = events+1, of
		}
	}
	return events, ids
}

// The control plane is killed between the steps of a change of flags (told, committed, posted, recorded), and
// restarted. Each record and each kill is committed once, each event comes at least once and always under one ID, and
// an acknowledged kill is in force (R43, faults 1-3).
func TestFlagsKilledAtAnInstant(t *testing.T) {
	t.Parallel()
	const before, after = "pre-receive", "reference-transaction"
	for name, c := range map[string]struct {
		hook, subject, event string
	}{
		"armed, before it lands":     {hook: before, subject: "arm "},
		"armed, and landed":          {hook: after, subject: "arm "},
		"killed, before it lands":    {hook: before, subject: "kill "},
		"killed, and landed":         {hook: after, subject: "kill "},
		"published, before it lands": {hook: before, subject: "publish "},
		"published, and landed":      {hook: after, subject: "publish "},
		"sent that it is killed":     {event: "killed"},
		"sent that it is published":  {event: "published"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, b := newFlagWorld(t), newWebhookRecorder(t)
			l.server.environment = append(l.server.environment,
				"SLUICE_WEBHOOK_SECRETS=chat whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
			l.server.args = append(l.server.args, "--webhooks-reach", "loopback")
			l.addWebhook(b.URL)
			l.server.start()
			b.mu.Lock()
			b.killType, b.pid = c.event, l.server.cmd.Process.Pid
			b.mu.Unlock()
			if c.hook != "" {
				l.installKillHookIn(l.flags, c.hook, c.subject, map[string]int{before: 1, after: 0}[c.hook])
			}
			dead := l.server.done
			revive := func() {
				select {
				case <-dead:
					dead = nil
					if l.server.cmd = nil; c.hook != "" {
						_ = os.Remove(l.flags + "/hooks/" + c.hook)
					}
					l.server.start()
				default:
				}
			}
			l.runAs("ada", "flag", "set", newEditor, "--new", "--feature", feature)
			l.announceFeature(time.Now().Add(20 * time.Second))
			l.eventually(func() (string, bool) {
				revive()
				commits := l.countFlagCommits()
				return fmt.Sprintf("the announcement is not armed: %v", commits), commits["arm classes"] > 0
			})
			l.eventually(func() (string, bool) {
				revive()
				response, err := l.request(http.MethodPost, "/v1/flags/"+newEditor+"/kill",
					[]byte(`{"reason":"it burns"}`), http.Header{"Content-Type": {"application/json"}})
				if err != nil {
					return err.Error(), false
				}
				response.Body.Close()
				return response.Status, response.StatusCode == http.StatusOK
			})
			l.eventually(func() (string, bool) {
				revive()
				commits := l.countFlagCommits()
				killed, _ := b.received("killed/")
				published, _ := b.received("published/classes/dedicated/")
				var d peopleapi.FlagDetail
				err := l.getJSON("/v1/flags/"+newEditor, &d)
				over := dead == nil && commits["publish classes"] > 0 && commits["kill "+newEditor+":"] > 0 &&
					killed > 0 &&
					published > 0 && err == nil && len(d.Kills) == 1 && d.Kills[0].Committed
				return fmt.Sprintf("%v, %d kills and %d publications told, %+v, killed by the test: %t",
					commits, killed, published, d.Kills, dead == nil), over
			})
			l.server.stop()
			for subject, n := range l.countFlagCommits() {
				if n != 1 && !strings.HasPrefix(subject, "move ") {
					t.Errorf("%d commits: %s", n, subject)
				}
			}
			for _, kind := range []string{"killed/", "published/classes/dedicated/"} {
				if events, ids := b.received(kind); events != 1 || len(ids) != 1 {
					t.Errorf("%s: %d events, one of them under %v", kind, events, ids)
				}
			}
		})
	}
}

// countFlagCommits counts what the engine committed to the flags repository, by the first two words of each. One commit
// may have several, which its message lists.
func (l *flagWorld) countFlagCommits() map[string]int {
	l.t.Helper()
	counts := map[string]int{}
	count := func(line string) {
		words := strings.Fields(line)
		counts[strings.Join(words[:min(len(words), 2)], " ")]++
	}
	for message := range strings.SplitSeq(git(l.t, l.flags, "log", "--first-parent", "--author=Sluice",
		"--format=%B%x00", "main"), "\x00") {
		message = strings.TrimSpace(message)
		subject, body, _ := strings.Cut(message, "\n")
		listed := 0
		for line := range strings.Lines(body) {
			if why, ok := strings.CutPrefix(line, "- "); ok {
				count(why)
				listed++
			}
		}
		if message != "" && listed == 0 {
			count(subject)
		}
	}
	return counts
}

func (l *flagWorld) addWebhook(url string) {
	l.t.Helper()
	clone := l.path("settings")
	git(l.t, l.dir, "clone", "-q", l.flags, clone)
	settings, err := os.OpenFile(clone+"/sluice.yaml", os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = settings.WriteString("webhooks: [{name: chat, url: \"" + url + "\"}]\n")
	}
	if err == nil {
		err = settings.Close()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	git(l.t, clone, "commit", "-qam", "tell the chat")
	git(l.t, clone, "push", "-q", "origin", "HEAD:main")
}
