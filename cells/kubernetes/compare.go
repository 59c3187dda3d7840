package kubernetes

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-cd/sluice/cells"
)

// Comparison says what a release would do to the cluster. Nothing was written to find out.
type Comparison struct {
	Problems  []string // what keeps the release as a whole from being applied
	Changes   []Change // by object
	Unchanged int      // objects that are as the release wants them
}

// Change is what a release would do to one object.
type Change struct {
	Object string // kind, namespace and name
	Kind   ChangeKind
	Reason string // in words; empty: Kind says it all

	// Before and After are the object as YAML, as it is and as the API server would have it, without what the API
	// server keeps for itself and without the values of Secrets. nil: it is not there, or not shown.
	Before, After []byte
}

// ChangeKind is the kind of a Change.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "added"
	Changed ChangeKind = "changed"
	Removed ChangeKind = "removed" // once the release was healthy for long enough
	Kept    ChangeKind = "kept"    // though the release does not have it any more
	Refused ChangeKind = "refused" // by the API server, so that the release would fail
	Unknown ChangeKind = "unknown" // the API server could not be asked
)

// Known is what a state folder says about the cluster that its agent applies releases to.
type Known struct {
	Cell      string
	Namespace string // of objects that name none; empty: an older agent wrote it
}

// ReadKnown reads it; ok: the agent has begun to apply a release to a cluster. The agent may be running.
func ReadKnown(stateDir string) (k Known, ok bool, err error) {
	inv, err := readInventory(filepath.Join(stateDir, inventoryFile))
	if err != nil {
		return k, false, err
	}
	return Known{inv.Cell, inv.Namespace}, inv.Key != "", nil
}

// Compare asks the API server what an apply of r would change, by a dry run of each object that may differ. It reads
// the inventory as it is now, and changes neither it nor the cluster, so it needs no Lease: the agent may be running.
func (t *Target) Compare(ctx context.Context, r cells.Rendered) (Comparison, error) {
	c, err := t.compare(ctx, r)
	if err != nil {
		return Comparison{}, interrupted(ctx, fmt.Errorf("compare %s with the cluster: %w", r.Assignment.Release, err))
	}
	return c, nil
}

func (t *Target) compare(ctx context.Context, r cells.Rendered) (Comparison, error) {
	var err error
	if t.inventory, err = loadInventory(t.file, t.options.Cell); err != nil {
		return Comparison{}, err
	}
	objects, err := t.read(ctx, r)
	if err != nil {
		return Comparison{}, err
	}
	d := &dryRun{run: run{target: t, rendered: r, dry: true}, live: map[id]*unstructured.Unstructured{},
		comes: map[string]bool{}}
	for _, err := range []error{guardCollapse(t.inventory, objects, r), guardForeignHooks(t.inventory, objects, r)} {
		if err != nil {
			d.found.Problems = append(d.found.Problems, err.Error())
		}
	}
	if _, err := t.preflight(ctx, objects); err != nil {
		d.found.Problems = append(d.found.Problems, err.Error())
	}
	open, err := d.look(ctx, objects)
	if err != nil {
		return Comparison{}, err
	}
	var group errgroup.Group
	group.SetLimit(mostAtOnce)
	for _, o := range open {
		group.Go(func() error { return d.object(ctx, o) })
	}
	if err := group.Wait(); err != nil {
		return Comparison{}, err
	}
	slices.SortStableFunc(d.found.Changes, func(a, b Change) int { return cmp.Compare(a.Object, b.Object) })
	return d.found, nil
}

// dryRun is a run that writes nothing.
type dryRun struct {
	run
	live  map[id]*unstructured.Unstructured // objects that may differ, as they are
	comes map[string]bool                   // namespaces that the release adds

	mu    sync.Mutex // guards what follows
	found Comparison
}

// look finds out which objects may differ, and plans what would be removed.
func (d *dryRun) look(ctx context.Context, objects []object) (open []object, err error) {
	t := d.target
	wanted, same := map[id]object{}, map[id]bool{}
	existed := map[id]bool{}
	for _, o := range objects {
		wanted[o.id] = o
		if o.Group == "" && o.Kind == "Namespace" {
			d.comes[o.Name] = true
		}
	}
	err = t.lookUp(ctx, objects, func(live *unstructured.Unstructured) {
		of := idOf(live)
		if of.Group == "" && of.Kind == "Namespace" {
			delete(d.comes, of.Name)
		}
		e := t.inventory.byID[of]
		if e != nil && e.Hash == wanted[of].hash && e.UID == string(live.GetUID()) &&
			e.Fingerprint == fingerprint(live) {
			same[of] = true
			return
		}
		d.live[of], existed[of] = live, !t.isOurs(live)
	})
	if err != nil {
		return nil, err
	}
	had := map[id]bool{}
	for _, e := range t.inventory.Entries {
		had[e.id] = e.Current
	}
	ran := slices.Clone(t.inventory.Hooks)
	t.inventory.begin(d.rendered, objects, func(of id) bool { return existed[of] })
	plan := planRemoval(t.inventory, false)
	for _, e := range plan.remove {
		d.add(Change{Object: e.String(), Kind: Removed})
	}
	for e, why := range plan.keep {
		if had[e.id] {
			d.add(Change{Object: e.String(), Kind: Kept, Reason: why})
		}
	}
	for _, o := range objects {
		switch {
		case same[o.id], d.live[o.id] == nil && t.inventory.byID[o.id].isSpent(o),
			o.hook != hookNone && slices.Contains(ran, o.Namespace+"/"+o.Name):
			d.found.Unchanged++
		default:
			open = append(open, o)
		}
	}
	return open, nil
}

func (d *dryRun) add(c Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.found.Changes = append(d.found.Changes, c)
}

// object asks the API server what it would make of an object.
func (d *dryRun) object(ctx context.Context, o object) error {
	t := d.target
	m, err := t.manifest(o, d.rendered)
	if err != nil {
		return err
	}
	live := d.live[o.id]
	change := Change{Object: o.id.String(), Kind: Changed}
	if live == nil {
		change.Kind = Added
	}
	if o.hook != hookNone {
		change.Reason = "it runs once, " + string(o.hook) + " the workloads of its wave"
	}
	found, err := t.cluster.find(ctx, o.groupKind(), o.version)
	result := m
	switch {
	case isNotServed(err):
		if _, err := t.cluster.find(ctx, o.groupKind(), ""); err == nil {
			change.Kind = Unknown // it may be there in another version
		}
		change.Reason = "the API server was not asked: the definition of its kind comes with the release"
	case err != nil:
		return unavailable(change.Object, err)
	case d.comes[o.Namespace]:
		change.Reason = "the API server was not asked: its namespace comes with the release"
	default:
		e := *t.inventory.byID[o.id]
		result, _, err = d.write(ctx, found, m, e, e.UID != "" && e.Hash == o.hash)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
	if err != nil && !isNotServed(err) {
		change.Kind, change.Reason, result = notTaken(err), whyNotTaken(m, err), m
	}
	if change.Before, change.After = shown(live, result); err != nil && live != nil {
		change.Before, change.After = nil, nil // without the API server's defaults all would seem to change
	}
	if change.Kind == Changed && bytes.Equal(change.Before, change.After) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.found.Unchanged++
		return nil
	}
	d.add(change)
	return nil
}

// notTaken returns what becomes of an object that a dry run did not take.
func notTaken(err error) ChangeKind {
	if _, away := errors.AsType[*cells.UnavailableError](err); away {
		return Unknown
	}
	return Refused
}

// whyNotTaken says why a dry run did not take an object. The API server may quote values, so its words about a Secret
// are not shown.
func whyNotTaken(m *unstructured.Unstructured, err error) string {
	if _, named := errors.AsType[*conflict](err); !named && isSecret(m.Object) {
		return "the API server does not take the Secret, and why is not shown, for it may quote values"
	}
	return err.Error()
}

// shown returns two states of an object as people are shown them; nil: there is none.
func shown(before, after *unstructured.Unstructured) (was, is []byte) {
	bare := func(o *unstructured.Unstructured) map[string]any {
		if o == nil {
			return nil
		}
		o = o.DeepCopy()
		removeServerFields(o)
		return o.Object
	}
	return hideSecrets(bare(before), bare(after))
}
