package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/internal/words"
)

// Options configure a Target. Fields without a default are required.
type Options struct {
	Cell        string        // the cell's name, a label of its objects
	Config      *rest.Config  // how to reach the API server, and as whom
	StateDir    string        // an existing folder: the inventory is a file in it
	Namespace   string        // of objects that name none; default "default"
	WaitTimeout time.Duration // for a wave or a hook inside a release to be done; default 5m
	RemovalWait time.Duration // for removed objects to be gone; then it is said what they wait for; default 5s
	OnWarning   func(string)  // called with the API server's warnings, once each; nil: not told
}

// Target is a cluster as a target: see cells.Target.
type Target struct {
	options   Options
	file      string // of the inventory
	cluster   *cluster
	inventory *inventory // nil: not read yet
	lease     *lease
	view      *view
	details   details
	parsed    parsed
	checked   string   // the last set of rights that the preflight found to be there
	problems  []string // notes of the last call that are not in the inventory
	damage    string   // that the inventory was damaged; empty: it was not
}

var (
	_ cells.Target  = (*Target)(nil)
	_ cells.Watcher = (*Target)(nil)
	_ cells.Noter   = (*Target)(nil)
)

// parsed is the last release that was read: reading it anew for each check would keep a core busy.
type parsed struct {
	content string
	objects []object
}

// New returns a cluster as a target. It asks the API server nothing.
func New(o Options) (*Target, error) {
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	if o.WaitTimeout <= 0 {
		o.WaitTimeout = 5 * time.Minute
	}
	if o.RemovalWait <= 0 {
		o.RemovalWait = 5 * time.Second
	}
	c, err := newCluster(o.Config, o.OnWarning)
	if err != nil {
		return nil, fmt.Errorf("target cluster: %w", err)
	}
	t := &Target{options: o, file: filepath.Join(o.StateDir, inventoryFile), cluster: c, lease: newLease(c, o),
		view: newView(c, o.Cell), details: details{cluster: c}}
	return t, nil
}

// load reads the inventory before its first use: by then the agent has the state folder for itself. A damaged one is
// put aside: what runs is recognised by its marks, but what earlier releases left is not known any more.
func (t *Target) load() error {
	if t.inventory != nil {
		return nil
	}
	inv, err := loadInventory(t.file, t.options.Cell)
	if damaged, ok := errors.AsType[*damagedInventory](err); ok {
		aside, asideErr := disk.PutAside(t.file, time.Now())
		if asideErr != nil {
			return &cells.UnavailableError{Cause: asideErr}
		}
		t.damage = fmt.Sprintf("%v: it was put aside as %s, and objects that earlier releases left are not removed", damaged,
			aside)
		inv, err = loadInventory(t.file, t.options.Cell)
	}
	if err != nil {
		return &cells.UnavailableError{Cause: err}
	}
	t.inventory = inv
	for _, e := range t.inventory.Entries {
		if e.Current {
			t.view.expectFingerprint(e.id, e.Fingerprint)
		}
	}
	return nil
}

// Close ends the watches, and lets another agent act.
func (t *Target) Close() {
	t.view.close()
	t.lease.close()
}

// Acting returns nil if this agent is the one that acts in the cluster, or says who is. It may be called at any time.
func (t *Target) Acting(ctx context.Context) error { return t.lease.ensure(ctx) }

// Changed returns a channel that receives when an object drifted, or became healthy or unhealthy.
func (t *Target) Changed() <-chan struct{} { return t.view.changed }

// read returns the objects of a release, with their namespaces.
func (t *Target) read(ctx context.Context, r cells.Rendered) ([]object, error) {
	content := hashFiles(r)
	if t.parsed.content == content {
		return t.parsed.objects, nil
	}
	objects, err := readObjects(r)
	if err != nil {
		return nil, err
	}
	scopes := definedScopes(objects)
	for i := range objects {
		o := &objects[i]
		o.scope = scopes[o.groupKind()]
		if o.scope == scopeUnknown {
			found, err := t.cluster.find(ctx, o.groupKind(), o.version)
			if err != nil {
				return nil, t.notServed(*o, err)
			}
			o.scope = scopeCluster
			if found.namespaced {
				o.scope = scopeNamespace
			}
		}
		o.settle(t.options.Namespace, r.Assignment)
	}
	t.parsed = parsed{content, objects}
	return objects, nil
}

// settle gives an object the namespace that it is in, and a hook the name of its one run.
func (o *object) settle(namespace string, a cells.Assignment) {
	switch {
	case o.scope == scopeCluster:
		o.Namespace = ""
	case o.Namespace == "":
		o.Namespace = namespace
	}
	if o.hook != hookNone {
		o.Name = hookName(o.Name, a, o.hash)
	}
}

// notServed says that the cluster lacks a kind, and what it has.
func (t *Target) notServed(o object, err error) error {
	if !isNotServed(err) {
		return unavailable(o.id.String(), err)
	}
	what := fmt.Sprintf("%s: the cluster does not serve %s %s", o.id, o.gvk().GroupVersion(), o.Kind)
	if missing, _ := errors.AsType[*notServed](err); len(missing.versions) > 0 {
		return &cells.UnavailableError{Cause: fmt.Errorf("%s, but version %s: the release must name one that the "+
			"cluster has, or the cluster needs another Kubernetes", what,
			words.Some(missing.versions, mostNamed))}
	}
	return &cells.UnavailableError{Cause: fmt.Errorf("%s: a release contains the definition, or the cell's owner "+
		"installs it", what)}
}

// manifest returns what is applied for an object.
func (t *Target) manifest(o object, r cells.Rendered) (*unstructured.Unstructured, error) {
	m, err := readManifest(r.Files[o.file])
	if err != nil {
		return nil, releaseFault("%s: %v", o.file, err)
	}
	m.SetNamespace(o.Namespace)
	m.SetName(o.Name)
	labels := m.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[cellLabel] = t.options.Cell
	m.SetLabels(labels)
	removeServerFields(m) // what was exported from a cluster has them
	if o.hook != hookNone {
		limitHook(m, t.options.WaitTimeout)
	}
	return m, nil
}

// removeServerFields removes what the API server and controllers write.
func removeServerFields(o *unstructured.Unstructured) {
	unstructured.RemoveNestedField(o.Object, "status")
	for _, field := range []string{"creationTimestamp", "uid", "resourceVersion", "generation", "managedFields"} {
		unstructured.RemoveNestedField(o.Object, "metadata", field)
	}
}

// watch makes the view watch the kinds of the objects that the API server serves already.
func (t *Target) watch(ctx context.Context) error {
	want := map[watchKey]resource{}
	namespaces := map[watchKey]map[string]bool{}
	for _, e := range t.inventory.Entries {
		if !e.Current {
			continue
		}
		found, err := t.cluster.find(ctx, e.groupKind(), e.Version)
		if isNotServed(err) {
			continue // until its definition is established
		}
		if err != nil {
			return &cells.UnavailableError{Cause: err}
		}
		all := watchKey{gvr: found.gvr}
		if namespaces[all] == nil {
			namespaces[all] = map[string]bool{}
		}
		namespaces[all][e.Namespace] = true
		want[watchKey{found.gvr, e.Namespace}] = found
	}
	for all, in := range namespaces {
		if len(in) <= mostWatchedNamespaces {
			continue
		}
		for namespace := range in {
			want[all] = want[watchKey{all.gvr, namespace}]
			delete(want, watchKey{all.gvr, namespace})
		}
	}
	t.view.watch(ctx, want)
	if err := t.view.await(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return unavailable("look at the cluster", err)
	}
	return nil
}

// mostWatchedNamespaces is in how many namespaces a kind is watched by a watch each; in more, one watch sees all.
const mostWatchedNamespaces = 10

// Health returns nil if every object of the release works.
func (t *Target) Health(ctx context.Context) error {
	if err := t.load(); err != nil {
		return err
	}
	if err := t.lease.ensure(ctx); err != nil {
		return err
	}
	rules, err := compileRules(t.inventory.Rules.Health)
	if err != nil {
		return err
	}
	t.view.setRules(rules)
	if err := t.watch(ctx); err != nil {
		return err
	}
	if err := t.view.fault(); err != nil {
		return unavailable("look at the cluster", err)
	}
	return t.judge(ctx, func(*entry) bool { return true })
}

// judge returns an *cells.Unhealthy if one of the objects that include selects does not work.
func (t *Target) judge(ctx context.Context, include func(*entry) bool) error {
	if err := t.noteDone(); err != nil {
		return err
	}
	var bad []unhealthyObject
	all := 0
	for _, e := range t.inventory.Entries {
		if !e.Current || e.Hook || !include(e) {
			continue
		}
		all++
		o, ok := t.view.look(e.id)
		switch {
		case !ok && e.Done: // it was removed since, as by its ttlSecondsAfterFinished
		case !ok && e.Resisted:
			bad = append(bad, unhealthyObject{e, assessment{why: "it is missing, and somebody deletes it each time"}})
		case !ok:
			bad = append(bad, unhealthyObject{e, assessment{why: "it is missing"}})
		case !o.assessment.ready:
			bad = append(bad, unhealthyObject{e, o.assessment})
		}
	}
	if all == 0 && len(t.inventory.Entries) == 0 && !t.inventory.Applied {
		return &cells.Unhealthy{Reason: "nothing is installed"}
	}
	if len(bad) == 0 {
		return nil
	}
	slices.SortStableFunc(bad, func(a, b unhealthyObject) int { // what failed comes first
		switch {
		case a.failed == b.failed:
			return 0
		case a.failed:
			return -1
		}
		return 1
	})
	u := &cells.Unhealthy{Reason: fmt.Sprintf("%d of %s not healthy", len(bad), words.Count(all, "object"))}
	for _, b := range bad[:min(len(bad), cells.MaxUnhealthyObjects)] {
		u.Objects = append(u.Objects, cells.ObjectHealth{Object: b.entry.String(), Reason: b.why})
	}
	u.More = len(bad) - len(u.Objects)
	t.details.add(ctx, u, bad)
	return u
}

// noteDone keeps, durably, which Jobs succeeded: one that is gone later is not run again.
func (t *Target) noteDone() error {
	if !t.inventory.noteDone(t.view.takeDone()) {
		return nil
	}
	return t.inventory.save(t.file)
}

type unhealthyObject struct {
	*entry
	assessment
}

// Notes says what is kept, what hangs, and what is not healed because the cell's owner says so.
func (t *Target) Notes() []string {
	if t.inventory == nil {
		return nil
	}
	var kept, hanging, suspended []string
	for _, e := range t.inventory.Entries {
		switch {
		case e.Kept != "":
			kept = append(kept, fmt.Sprintf("%s (%s)", e.id, e.Kept))
		case e.Deleting != nil:
			hanging = append(hanging, fmt.Sprintf("%s since %s: %s", e.id, words.FormatTime(*e.Deleting), e.Held))
		}
		if o, ok := t.view.look(e.id); ok && e.Current && o.healSuspended {
			suspended = append(suspended, e.id.String())
		}
	}
	notes := slices.Clone(t.problems)
	if t.damage != "" {
		notes = append(notes, t.damage)
	}
	for _, n := range []struct {
		objects []string
		text    string
	}{
		{hanging, "removed, but not gone: "},
		{suspended, "not healed, because the cell's owner suspended it: "},
		{kept, "no release has them any more, and they stay: "},
	} {
		if len(n.objects) > 0 {
			notes = append(notes, n.text+words.Some(n.objects, mostNamed))
		}
	}
	return notes
}

// interrupted returns ctx's cause if it ended, else err.
func interrupted(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	return err
}
