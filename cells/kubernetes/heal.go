package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
)

// Heal applies objects that drifted, and applies all of r if that was not done. If r is proven and healthy, what
// earlier releases left is removed.
func (t *Target) Heal(ctx context.Context, r cells.Rendered) (int, error) {
	if err := t.load(); err != nil {
		return 0, fmt.Errorf("heal %s in the cluster: %w", r.Assignment.Release, err)
	}
	ctx, end, err := t.lease.act(ctx)
	if err != nil {
		return 0, fmt.Errorf("heal %s in the cluster: %w", r.Assignment.Release, err)
	}
	defer end()
	mended, err := t.heal(ctx, r)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		err = fmt.Errorf("heal %s in the cluster: %w", r.Assignment.Release, err)
	}
	return mended, err
}

func (t *Target) heal(ctx context.Context, r cells.Rendered) (mended int, err error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	if !t.inventory.isOf(r) {
		before := t.fingerprints()
		if err := t.apply(ctx, r); err != nil {
			return 0, err
		}
		for of, now := range t.fingerprints() {
			if before[of] != now {
				mended++
			}
		}
	} else if mended, err = t.healDrift(ctx, r); err != nil && !isRecurring(err) {
		return mended, err
	}
	if r.Proven && t.inventory.hasLeftovers() {
		if removeErr := t.removeLeftovers(ctx); removeErr != nil {
			return mended, removeErr
		}
	}
	return mended, err
}

func isRecurring(err error) bool {
	_, ok := errors.AsType[*cells.RecurringDriftError](err)
	return ok
}

func (t *Target) fingerprints() map[id]string {
	all := map[id]string{}
	for _, e := range t.inventory.Entries {
		if e.Current && !e.Hook {
			all[e.id] = e.UID + e.Fingerprint
		}
	}
	return all
}

func (t *Target) healDrift(ctx context.Context, r cells.Rendered) (mended int, err error) {
	t.problems = nil
	rules, err := compileRules(r.Kubernetes.Health)
	if err != nil {
		return 0, err
	}
	objects, err := t.read(ctx, r)
	if err != nil {
		return 0, err
	}
	t.view.setRules(rules)
	if err := t.watch(ctx); err != nil {
		return 0, err
	}
	if err := t.view.fault(); err != nil {
		return 0, unavailable("look at the cluster", err)
	}
	if err := t.noteDone(); err != nil {
		return 0, err
	}
	var drifted []object
	var resisted []string
	now := time.Now()
	for _, o := range objects {
		e := t.inventory.byID[o.id]
		if o.hook != hookNone || e == nil || !t.hasDrifted(o, e) {
			continue
		}
		if judgeHeal(e, now) {
			drifted = append(drifted, o)
		} else {
			t.view.expectFingerprint(o.id, "") // what becomes of it is no news
			resisted = append(resisted, o.id.String())
		}
	}
	if mended, err = t.healObjects(ctx, r, drifted); err != nil || len(resisted) == 0 {
		return mended, err
	}
	return mended, &cells.RecurringDriftError{Reason: "somebody else keeps changing what the agent heals, so it leaves " +
		"them alone for now: remove the fields from the release, or stop the other program: " +
		words.Some(resisted, mostNamed)}
}

// healObjects applies objects that drifted.
func (t *Target) healObjects(ctx context.Context, r cells.Rendered, drifted []object) (mended int, err error) {
	if len(drifted) == 0 {
		return 0, nil
	}
	if err := t.inventory.save(t.file); err != nil { // so that a restart does not forget how often
		return 0, err
	}
	healing := &run{target: t, rendered: r, heal: true}
	err = healing.all(ctx, drifted)
	if saveErr := t.inventory.save(t.file); err == nil {
		err = saveErr
	}
	return healing.written, err
}

// hasDrifted reports whether an object is to be healed: it is missing, or not as it was applied, and the cell's owner
// did not suspend that.
func (t *Target) hasDrifted(o object, e *entry) bool {
	seen, ok := t.view.look(o.id)
	if ok && seen.healSuspended {
		return false
	}
	if !ok && e.isSpent(o) {
		return false
	}
	return !ok || e.UID != seen.uid || e.Fingerprint != seen.fingerprint || e.Hash != o.hash
}

// removeLeftovers removes what no release has any more, once all that runs is healthy. What can't be removed is a note:
// the product works without that.
func (t *Target) removeLeftovers(ctx context.Context) error {
	if t.Health(ctx) != nil {
		return context.Cause(ctx) // later
	}
	plan := planRemoval(t.inventory, false)
	for e, why := range plan.keep {
		e.Kept = why
	}
	gone := map[id]bool{}
	until := time.Now()
	if slices.ContainsFunc(plan.remove, func(e *entry) bool { return e.Deleting == nil }) {
		until = until.Add(t.options.RemovalWait) // what hangs since longer is looked at, not waited for
	}
	asked := map[*entry]bool{}
	for {
		t.problems = nil
		if err := t.removeOnce(ctx, plan.remove, asked, gone); err != nil {
			return err
		}
		plan.remove = slices.DeleteFunc(plan.remove, func(e *entry) bool { return gone[e.id] || e.Kept != "" })
		if len(plan.remove) == 0 || time.Now().After(until) {
			break
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	t.inventory.remove(gone)
	return t.inventory.save(t.file)
}

// removeOnce asks for each object's deletion, or looks whether it is gone, in the order of their ranks.
func (t *Target) removeOnce(ctx context.Context, all []*entry, asked map[*entry]bool, gone map[id]bool) error {
	var mu sync.Mutex
	for i := 0; i < len(all); {
		n := i
		var group errgroup.Group
		group.SetLimit(mostAtOnce)
		for ; n < len(all) && removalRank(all[n]) == removalRank(all[i]); n++ {
			e := all[n]
			group.Go(func() error {
				mu.Lock()
				wasAsked := asked[e]
				mu.Unlock()
				isGone, err := t.removeOne(ctx, e, wasAsked)
				mu.Lock()
				defer mu.Unlock()
				asked[e] = err == nil
				if err != nil {
					t.problems = append(t.problems, words.Clip(
						fmt.Sprintf("%s can't be removed: %s", e.id, cleantext.Line(err.Error())), maxMessage))
				}
				if isGone {
					gone[e.id] = true
				}
				return nil
			})
		}
		_ = group.Wait() // its functions return nil
		if err := context.Cause(ctx); err != nil {
			return err
		}
		i = n
	}
	slices.Sort(t.problems)
	return nil
}

// removeOne removes one object, if it is the one that the inventory means. isGone reports that there is nothing left of
// it.
func (t *Target) removeOne(ctx context.Context, e *entry, asked bool) (isGone bool, err error) {
	found, live, err := t.findLive(ctx, e)
	switch {
	case err != nil:
		return false, err
	case live == nil:
		return true, nil
	case live.GetAnnotations()[pruneAnnotation] == "disabled":
		e.Kept = "its annotation " + pruneAnnotation + " says so"
		return false, nil
	}
	if live.GetDeletionTimestamp() == nil && !asked {
		err := t.cluster.delete(ctx, found, e.id, live.GetUID(), metav1.DeletePropagationBackground)
		if err != nil {
			return false, err
		}
		now := time.Now()
		e.Deleting = &now
	}
	e.Held = whyHeld(live)
	return false, nil
}

// findLive returns the object that an entry means, as it is in the cluster; nil: it is gone.
func (t *Target) findLive(ctx context.Context, e *entry) (found resource, live *unstructured.Unstructured, err error) {
	found, err = t.cluster.find(ctx, e.groupKind(), e.Version)
	if isNotServed(err) { // of another version, after an upgrade of the cluster
		found, err = t.cluster.find(ctx, e.groupKind(), "")
	}
	if isNotServed(err) {
		return found, nil, nil
	}
	if err == nil {
		live, err = t.cluster.get(ctx, found, e.id)
	}
	if err != nil || live == nil || !e.means(live, t.options.Cell) {
		return found, nil, err
	}
	return found, live, nil
}

// whyHeld says what the deletion of an object waits for.
func whyHeld(live *unstructured.Unstructured) string {
	waits := live.GetFinalizers()
	switch {
	case len(waits) == 0:
		return "it is not done yet"
	case slices.Contains(waits, metav1.FinalizerDeleteDependents):
		return "it waits until its pods are gone: see which are Terminating, and whether their nodes answer"
	}
	return "it waits for " + some(waits, func(f string) string { return "finalizer " + cleantext.Line(f) }) +
		": whoever set them must do their part"
}

// means reports whether a live object is the one of the entry, and not another of its name.
func (e *entry) means(live *unstructured.Unstructured, cell string) bool {
	if e.UID != "" {
		return e.UID == string(live.GetUID())
	}
	// Killed before the UID was kept, the agent knows what it meant to create, and its own marks.
	return live.GetLabels()[cellLabel] == cell && isOwner(live)
}
