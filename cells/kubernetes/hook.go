package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-cd/sluice/cells"
)

const (
	hookLimit     = 10 * time.Minute // that a hook without a limit of its own may take
	hookLook      = 200 * time.Millisecond
	maxHookPrefix = 40 // bytes of a hook's own name in the name of its run
)

// hookName returns the name of the Job that is a hook's one run for a release. A Job can't be changed, so another
// release, or another manifest, has another.
func hookName(name string, a cells.Assignment, hash string) string {
	return name[:min(len(name), maxHookPrefix)] + "-" + contentHash([]byte(a.Digest), []byte(hash))[:10]
}

// guardForeignHooks returns an error if a release has hooks of Helm or Argo CD. One that was begun before, or that is
// gone back to, is let through.
func guardForeignHooks(inv *inventory, objects []object, r cells.Rendered) error {
	if r.Back || inv.Key == r.Assignment.Key() {
		return nil
	}
	hooks := slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return o.foreign == "" })
	if len(hooks) == 0 {
		return nil
	}
	return releaseFault("only Helm and Argo CD know when hooks of theirs are to run, so nothing was changed: a Job "+
		"that runs once has the annotation %s: %s or %s instead, and what is of no use here is left out: %s", hookAnnotation,
		hookBefore, hookAfter, some(hooks, func(o object) string { return o.id.String() + " (" + o.foreign + ")" }))
}

// limitHook gives a hook a deadline, unless it has one: no later than it is waited for, should the agent be gone then.
func limitHook(m *unstructured.Unstructured, wait time.Duration) {
	if _, ok, _ := unstructured.NestedFieldNoCopy(m.Object, "spec", "activeDeadlineSeconds"); !ok {
		seconds := int64(max(min(hookLimit, wait), time.Second) / time.Second)
		_ = unstructured.SetNestedField(m.Object, seconds, "spec", "activeDeadlineSeconds")
	}
}

// hooks runs hooks one after the other, in the order of their names, and waits for each to succeed.
func (u *run) hooks(ctx context.Context, hooks []object) error {
	hooks = slices.Clone(hooks)
	slices.SortFunc(hooks, func(a, b object) int { return compareIDs(a.id, b.id) })
	for _, o := range hooks {
		if slices.Contains(u.target.inventory.Hooks, o.Namespace+"/"+o.Name) {
			continue
		}
		if err := u.hook(ctx, o); err != nil {
			return err
		}
		u.target.inventory.addHook(o.Namespace + "/" + o.Name)
		if err := u.target.inventory.save(u.target.file); err != nil {
			return err
		}
	}
	return nil
}

// hook starts a hook, or finds it running, and waits for it. One that takes too long is ended: whatever follows must
// not meet it.
func (u *run) hook(ctx context.Context, o object) error {
	if u.target.inventory.byID[o.id].isSpent(o) { // it may be gone already
		return nil
	}
	if err := u.object(ctx, o); err != nil {
		return err
	}
	limit := u.target.options.WaitTimeout
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	last, err := u.awaitHook(limited, o)
	switch {
	case err == nil || limited.Err() == nil:
		return err
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	}
	e := u.target.inventory.byID[o.id]
	found, live, err := u.target.findHook(ctx, e)
	if err == nil && live != nil {
		err = u.target.endHook(ctx, e, found, live)
	}
	if err != nil {
		return err
	}
	why := fmt.Sprintf("hook %s is not done within %s, and was deleted: %s", o.id, limit, last.why)
	if last.suspended {
		return &cells.UnavailableError{Cause: errors.New(why)}
	}
	return &refusal{why, cells.CauseUnknown} // its pod may never have started
}

// awaitHook waits until a hook succeeded. last is what was seen of it last.
func (u *run) awaitHook(ctx context.Context, o object) (last assessment, err error) {
	last.why = "it was not seen"
	for {
		found, err := u.target.cluster.find(ctx, o.groupKind(), o.version)
		if err != nil {
			return last, unavailable("look at hook "+o.id.String(), err)
		}
		live, err := u.target.cluster.get(ctx, found, o.id)
		switch {
		case err != nil:
			return last, unavailable("look at hook "+o.id.String(), err)
		case live == nil:
			return last, &cells.UnavailableError{Cause: fmt.Errorf("hook %s was deleted before it was done", o.id)}
		}
		last = assessHook(live)
		switch {
		case last.ready:
			return last, nil
		case last.failed:
			cause := cells.CauseRelease
			if condition(live, "Failed")["reason"] == "DeadlineExceeded" {
				cause = cells.CauseUnknown // its pod may never have started
			}
			return last, &refusal{fmt.Sprintf("hook %s: %s", o.id, last.why), cause}
		}
		if err := pause(ctx, hookLook); err != nil {
			return last, err
		}
	}
}

// endHook deletes the Job of a hook, which is gone once its pods are. Nothing that must not meet it is applied before:
// see endFormerHooks.
func (t *Target) endHook(ctx context.Context, e *entry, found resource, live *unstructured.Unstructured) error {
	err := t.cluster.delete(ctx, found, e.id, live.GetUID(), metav1.DeletePropagationForeground)
	if err != nil {
		return unavailable("end hook "+e.String(), err)
	}
	return nil
}

// endFormerHooks ends the hooks that another release left running, because it took too long, was superseded or
// withdrawn, and waits until they are gone.
func (t *Target) endFormerHooks(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, t.options.WaitTimeout)
	defer cancel()
	for _, e := range t.inventory.Entries {
		if !e.Hook || e.Current || slices.Contains(t.inventory.Hooks, e.Namespace+"/"+e.Name) {
			continue
		}
		for asked := false; ; asked = true {
			found, live, err := t.findHook(ctx, e)
			if err != nil {
				return err
			}
			if live == nil || isDone(live) {
				break
			}
			if !asked {
				if err := t.endHook(ctx, e, found, live); err != nil {
					return err
				}
			}
			if pause(limited, hookLook) != nil {
				return interrupted(ctx, &cells.UnavailableError{Cause: fmt.Errorf("hook %s of another release was "+
					"deleted, and is not gone within %s: %s", e.id, t.options.WaitTimeout, whyHeld(live))})
			}
		}
	}
	return nil
}

// isDone reports whether the Job of a hook has ended by itself, so that no pod of it runs.
func isDone(live *unstructured.Unstructured) bool {
	a := assessHook(live)
	return a.ready || a.failed && live.GetDeletionTimestamp() == nil
}

// findHook returns the Job of a hook; nil: it is gone.
func (t *Target) findHook(ctx context.Context, e *entry) (resource, *unstructured.Unstructured, error) {
	found, live, err := t.findLive(ctx, e)
	if err != nil {
		err = interrupted(ctx, unavailable("look at hook "+e.String(), err))
	}
	return found, live, err
}
