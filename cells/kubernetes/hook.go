package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

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
	if err := u.endHook(ctx, o); err != nil {
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

// endHook deletes the Job of a hook, and so its pods.
func (u *run) endHook(ctx context.Context, o object) error {
	u.mu.Lock()
	uid := u.target.inventory.byID[o.id].UID
	u.mu.Unlock()
	found, err := u.target.cluster.find(ctx, o.groupKind(), o.version)
	if err == nil {
		err = u.target.cluster.delete(ctx, found, o.id, types.UID(uid))
	}
	if err != nil {
		return unavailable("end hook "+o.id.String(), err)
	}
	return nil
}
