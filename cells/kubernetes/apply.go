package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-cd/sluice/cells"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Apply writes the objects of r, in stages, and returns once all are written, hooks are done and all waves but the last
// are healthy. Nothing is removed.
func (t *Target) Apply(ctx context.Context, r cells.Rendered) error {
	if err := t.load(); err != nil {
		return fmt.Errorf("apply %s to the cluster: %w", r.Assignment.Release, err)
	}
	ctx, end, err := t.lease.act(ctx)
	if err != nil {
		return fmt.Errorf("apply %s to the cluster: %w", r.Assignment.Release, err)
	}
	defer end()
	if err := t.apply(ctx, r); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("apply %s to the cluster: %w", r.Assignment.Release, err)
	}
	return nil
}

func (t *Target) apply(ctx context.Context, r cells.Rendered) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	t.problems = nil
	if err := t.noteDone(); err != nil {
		return err
	}
	rules, err := compileRules(r.Kubernetes.Health)
	if err != nil {
		return err
	}
	objects, err := t.read(ctx, r)
	if err != nil {
		return err
	}
	if r.Back { // what a release asked for before its workloads was done when it was good
		objects = slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return o.hook != hookNone })
	}
	if err := guardCollapse(t.inventory, objects, r); err != nil {
		return err
	}
	if err := guardForeignHooks(t.inventory, objects, r); err != nil {
		return err
	}
	existing, err := t.preflight(ctx, objects)
	if err != nil {
		return err
	}
	t.inventory.Namespace = t.options.Namespace
	t.inventory.begin(r, objects, func(of id) bool { return existing[of] })
	if err := t.inventory.save(t.file); err != nil {
		return err
	}
	if err := t.endFormerHooks(ctx); err != nil {
		return err
	}
	t.view.setRules(rules)
	if err := t.watch(ctx); err != nil {
		return err
	}
	run := &run{target: t, rendered: r}
	err = run.all(ctx, objects)
	if err == nil {
		t.inventory.Applied = true
	}
	return errors.Join(err, t.inventory.save(t.file)) // the UIDs, whatever happened
}

// findExisting returns which objects that are new to the inventory are in the cluster already: true if somebody else
// made them.
func (t *Target) findExisting(ctx context.Context, objects []object) (map[id]bool, error) {
	existing := map[id]bool{}
	added := slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return !t.isNew(o) })
	err := t.lookUp(ctx, added, func(live *unstructured.Unstructured) { existing[idOf(live)] = !t.isOurs(live) })
	return existing, err
}

// isNew reports whether the inventory does not know that an object was created.
func (t *Target) isNew(o object) bool {
	e := t.inventory.byID[o.id]
	return e == nil || e.UID == ""
}

// isOurs reports whether the agent made a live object, though the inventory may be lost.
func (t *Target) isOurs(live *unstructured.Unstructured) bool {
	return live.GetLabels()[cellLabel] == t.options.Cell && isOwner(live)
}

// lookUp calls see for each of the objects that is in the cluster, one call at a time. Objects of kinds that the
// cluster does not serve are not there.
func (t *Target) lookUp(ctx context.Context, objects []object, see func(*unstructured.Unstructured)) error {
	wanted := map[watchKey]map[id]bool{}
	found := map[watchKey]resource{}
	for _, o := range objects {
		r, err := t.cluster.find(ctx, o.groupKind(), o.version)
		if isNotServed(err) { // the release defines it
			continue
		}
		if err != nil {
			return &cells.UnavailableError{Cause: err}
		}
		key := watchKey{r.gvr, o.Namespace}
		if wanted[key] == nil {
			wanted[key] = map[id]bool{}
		}
		wanted[key][o.id], found[key] = true, r
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(mostAtOnce)
	for key, ids := range wanted {
		group.Go(func() error {
			_, err := t.cluster.list(ctx, found[key], key.namespace, metav1.ListOptions{},
				func(live *unstructured.Unstructured) {
					mu.Lock()
					defer mu.Unlock()
					if ids[idOf(live)] {
						see(live)
					}
				})
			if err != nil {
				return unavailable("look which objects are there", err)
			}
			return nil
		})
	}
	return group.Wait()
}

// run is one pass of an apply or a heal. mu guards the inventory's entries while objects are written at once.
type run struct {
	target   *Target
	rendered cells.Rendered
	heal     bool
	dry      bool // the API server says what it would do, and nothing is written
	mu       sync.Mutex
	written  int // objects that were applied, though nothing may have changed
}

// all applies the objects batch by batch.
func (u *run) all(ctx context.Context, objects []object) error {
	ordered := batches(objects, func(o object) bool { return o.scope == scopeNamespace })
	for _, b := range ordered {
		if err := u.batch(ctx, b); err != nil {
			return err
		}
		if b.stage == stageFoundation {
			if err := u.establish(ctx, b.objects); err != nil {
				return err
			}
		}
		if b.last {
			if err := u.awaitWave(ctx, objects, b.wave); err != nil {
				return err
			}
		}
	}
	return nil
}

// batch applies objects at once. One that is refused does not keep the others from being applied, so that all faults
// are told together; if the API server does not answer, no more are begun.
func (u *run) batch(ctx context.Context, b batch) error {
	if b.stage == stageBefore || b.stage == stageAfter {
		return u.hooks(ctx, b.objects)
	}
	var mu sync.Mutex
	var faults []error
	var group errgroup.Group
	group.SetLimit(mostAtOnce)
	isAway := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(faults, func(err error) bool {
			_, ok := errors.AsType[*cells.UnavailableError](err)
			return ok
		})
	}
	for _, o := range b.objects {
		if context.Cause(ctx) != nil || isAway() {
			break
		}
		group.Go(func() error {
			if err := u.object(ctx, o); err != nil {
				mu.Lock()
				defer mu.Unlock()
				faults = append(faults, err)
			}
			return nil
		})
	}
	_ = group.Wait() // its functions return nil
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return join(faults)
}

// object applies one object, unless it is as it was applied.
func (u *run) object(ctx context.Context, o object) error {
	t := u.target
	u.mu.Lock()
	e := *t.inventory.byID[o.id]
	u.mu.Unlock()
	seen, ok := t.view.look(o.id)
	if !ok && e.isSpent(o) {
		return nil
	}
	if ok && e.Hash == o.hash && e.Fingerprint != "" && e.Fingerprint == seen.fingerprint && e.UID == seen.uid {
		return nil
	}
	found, err := t.cluster.find(ctx, o.groupKind(), o.version)
	if err != nil {
		return t.notServed(o, err)
	}
	m, err := t.manifest(o, u.rendered)
	if err != nil {
		return err
	}
	// What was applied before is the agent's, so whoever changed it meanwhile made drift.
	force := e.UID != "" && (u.heal || u.rendered.Back || e.Hash == o.hash)
	live, took, err := u.write(ctx, found, m, e, force)
	if err != nil {
		return err
	}
	t.view.note(live, found)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.written++
	real := t.inventory.byID[o.id]
	real.UID, real.Hash, real.Fingerprint = string(live.GetUID()), o.hash, fingerprint(live)
	real.Done = isSucceeded(live)
	if took {
		real.Existed = false
	}
	t.view.expectFingerprint(o.id, real.Fingerprint)
	return nil
}

// write applies a manifest. Fields that others own are taken from those whom the release takes over, and from people
// who changed by hand what the agent had applied. took reports whether an object of a program that is taken over is now
// the release's.
func (u *run) write(ctx context.Context, found resource, m *unstructured.Unstructured, e entry, force bool) (
	live *unstructured.Unstructured, took bool, err error,
) {
	c := u.target.cluster
	takeOver := takenOver(u.rendered.Kubernetes.TakeOver)
	if e.UID == "" && e.Existed && len(takeOver) > 0 && !u.dry {
		if took, err = c.takeOver(ctx, found, e.id, takeOver); err != nil {
			return nil, false, classify(e.id, err)
		}
	}
	live, err = c.apply(ctx, found, m, force, u.dry)
	if err == nil {
		return live, took, nil
	}
	err = classify(e.id, c.examine(ctx, found, m, err))
	if fields, ok := errors.AsType[*conflict](err); ok && mayTakeBack(fields.fields, takeOver, e.UID != "") {
		if live, err = c.apply(ctx, found, m, true, u.dry); err == nil {
			return live, took, nil
		}
		err = classify(e.id, err)
	}
	return nil, false, err
}

// establishWait is the pause between looks whether a definition is established.
const establishWait = 50 * time.Millisecond

// establish waits until definitions are established, so that objects of their kinds can be applied.
func (u *run) establish(ctx context.Context, objects []object) error {
	t := u.target
	waits := slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return !o.isCRD() })
	if len(waits) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, t.options.WaitTimeout, &refusal{
		fmt.Sprintf("definitions are not established within %s: %s", t.options.WaitTimeout, some(waits, object.name)),
		cells.CauseUnknown})
	defer cancel()
	for _, o := range waits {
		for {
			found, err := t.cluster.find(ctx, o.groupKind(), o.version)
			var live *unstructured.Unstructured
			if err == nil {
				live, err = t.cluster.get(limited, found, o.id)
			}
			if err != nil {
				return interrupted(limited, unavailable("look at "+o.id.String(), err))
			}
			if live != nil && condition(live, "Established") != nil {
				break
			}
			if err := pause(limited, establishWait); err != nil {
				return err
			}
		}
	}
	t.cluster.served.forget() // there are new kinds
	for _, o := range waits {
		for { // it is served a moment later
			_, err := t.cluster.find(limited, o.serves, "")
			if err == nil {
				break
			}
			if !isNotServed(err) {
				return interrupted(limited, unavailable("look for "+o.id.String(), err))
			}
			if err := pause(limited, establishWait); err != nil {
				return err
			}
			t.cluster.served.forget()
		}
	}
	return t.watch(ctx)
}

func (o object) name() string { return o.id.String() }

// awaitWave waits until what was applied of a wave and those before is healthy.
func (u *run) awaitWave(ctx context.Context, objects []object, wave int) error {
	t := u.target
	part := map[id]bool{}
	for _, o := range objects {
		part[o.id] = o.wave <= wave
	}
	limited, cancel := context.WithTimeout(ctx, t.options.WaitTimeout)
	defer cancel()
	for {
		err := t.judge(limited, func(e *entry) bool { return part[e.id] })
		if err == nil {
			return nil
		}
		if pause(limited, 200*time.Millisecond) != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return &refusal{fmt.Sprintf("wave %d is not healthy within %s: %v", wave, t.options.WaitTimeout, err),
				cells.CauseRelease}
		}
	}
}

// pause waits, and returns ctx's cause if ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
