package test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/maintenance/client"
	"github.com/sluice-cd/sluice/test/cluster"
)

// markedRelease returns the files of a release of one Deployment that takes a maintenance when server changes.
func markedRelease(version, image, server, web string) map[string]string {
	files := clusterRelease(version, image)
	files["releases/"+version+"/release.yaml"] += fmt.Sprintf("components:\n  - {name: server, maintenance: true, image: %q}\n"+
		"  - {name: web, image: %q}\nmaintenance:\n  texts: {en: {start: \"No start for now.\"}}\n",
		"r.example/server@sha256:"+strings.Repeat(server, 64), "r.example/web@sha256:"+strings.Repeat(web, 64))
	return files
}

// nodeLoad is a product on one node, which starts something all the time.
type nodeLoad struct {
	client *client.Client

	mu                            sync.Mutex
	granted, refused, unconfirmed int
	first, last                   time.Time // refusals
	texts                         map[string]bool
}

func (l *nodeLoad) run(ctx context.Context) {
	var operations sync.WaitGroup
	defer operations.Wait()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		operations.Go(func() {
			op, err := l.client.Begin(ctx, "start", fmt.Sprint(i))
			l.mu.Lock()
			defer l.mu.Unlock()
			if refused := new(client.Refused); errors.As(err, &refused) {
				if l.last = time.Now(); l.refused == 0 {
					l.first = l.last
				}
				l.refused++
				l.texts[refused.Text] = true
			} else if err == nil {
				l.granted++
				if op.Unconfirmed {
					l.unconfirmed++
				}
				operations.Go(func() {
					time.Sleep(100 * time.Millisecond) // the work
					op.End()
				})
			}
		})
	}
}

func (l *nodeLoad) counts() (granted, refused, unconfirmed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.granted, l.refused, l.unconfirmed
}

// A maintenance on the nodes of a real API server, with the rights that the printed manifest gives: operations on two
// nodes are refused with the release's text, the one that is under way on a node is waited for, and afterwards both
// grant again. A release without a marked change refuses nothing. A node that is gone is not waited for.
func TestMaintenanceOnTwoNodes(t *testing.T) {
	c := cluster.New(t, 1)
	w := newWorld(t, func(files map[string]string) {
		files["channels/staging/channel.yaml"] += "maintenance: {drain: 2m, maximum: 10m}\n"
	})
	installAgent(t, c, "--node")
	w.agents["eu-1"] = w.process("eu-1", "agent", "--cell", "eu-1", "--server", w.socket(), "--target", "kubernetes",
		"--kubeconfig", w.kubeconfigOf(c, "sluice-agent"), "--namespace", "shop", "--state", w.path("states", "eu-1"),
		"--nodes", "sluice-node/sluice-node", "--health-timeout", "1m", "--healthy-for", "1s", "--health-every",
		"500ms", "--report-every", "500ms")
	rights := w.kubeconfigOf(c, "sluice-node")
	loads := map[string]*nodeLoad{}
	for _, name := range []string{"n1", "n2"} {
		node := w.process(name, "node", "--configmap", "sluice-node/sluice-node", "--node", name, "--state",
			w.path("states", name), "--kubeconfig", rights, "--listen", "unix://"+w.path(name+".f"))
		w.agents[name] = node // is started with the rest
		loads[name] = &nodeLoad{client: client.New(w.path(name+".f"), client.Options{Timeout: 30 * time.Second}),
			texts: map[string]bool{}}
	}
	w.startAll()
	await := func(version string) {
		t.Helper()
		w.eventually(func() (string, bool) {
			s := w.cellStatus("eu-1")
			return fmt.Sprintf("eu-1 is %s on %s: %s", s.State, s.Release, s.Message),
				s.Release == version && s.State == "healthy"
		})
	}
	w.pushFiles("cut 1.0.0", markedRelease("1.0.0", "web:1", "a", "a"))
	await("1.0.0")
	for name, l := range loads {
		w.eventually(func() (string, bool) {
			op, err := l.client.Begin(t.Context(), "start", "first")
			if err != nil {
				return name + ": " + err.Error(), false
			}
			defer op.End()
			return name + " grants nothing", !op.Unconfirmed
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for _, l := range loads {
		running.Go(func() { l.run(ctx) })
	}

	w.pushFiles("cut 1.1.0", markedRelease("1.1.0", "web:2", "a", "b")) // changes only what is not marked
	await("1.1.0")
	for name, l := range loads {
		if granted, refused, unconfirmed := l.counts(); granted == 0 || refused > 0 || unconfirmed > 0 {
			t.Errorf("%s: %d granted, %d of them unconfirmed, %d refused by an unmarked change", name, granted, unconfirmed,
				refused)
		}
	}

	long, err := loads["n2"].client.Begin(t.Context(), "start", "long")
	if err != nil || long.Unconfirmed {
		t.Fatalf("%+v, %v", long, err)
	}
	w.pushFiles("cut 1.2.0", markedRelease("1.2.0", "web:3", "b", "b"))
	for name, l := range loads {
		w.eventually(func() (string, bool) {
			_, refused, _ := l.counts()
			return name + " refuses nothing", refused > 20
		})
	}
	image := func() string {
		return c.Run(t, "", "-n", "shop", "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	}
	for range 5 {
		if got := image(); got != "web:2" {
			t.Fatalf("%s was applied while a start is under way on n2", got)
		}
	}
	long.End()
	await("1.2.0")
	for name, l := range loads {
		_, refused, _ := l.counts()
		w.eventually(func() (string, bool) {
			op, err := l.client.Begin(t.Context(), "start", "after")
			if err != nil {
				return name + ": " + err.Error(), false
			}
			op.End()
			return name + " can't be asked", !op.Unconfirmed
		})
		l.mu.Lock()
		t.Logf("%s: starts were refused for %s, %d of them", name, l.last.Sub(l.first).Round(time.Millisecond), refused)
		if l.unconfirmed > 0 || len(l.texts) != 1 || !l.texts["No start for now."] {
			t.Errorf("%s: %d unconfirmed, users see %v", name, l.unconfirmed, l.texts)
		}
		l.mu.Unlock()
	}
	if log := w.processLog("eu-1"); !regexp.MustCompile(`operations were refused for [^(]*\([0-9]+ start\)`).MatchString(log) {
		t.Errorf("the event does not say how many were refused:\n%s", w.describe())
	}

	w.agents["n2"].kill() // with its node
	w.pushFiles("cut 1.3.0", markedRelease("1.3.0", "web:4", "c", "b"))
	await("1.3.0")
}
