package agent

import (
	"bytes"
	"net/http"
	"slices"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
)

// setRotation sets whether a new key is requested.
func (k *keyedControlPlane) setRotation(asked bool) {
	k.update(func() {
		k.version++
		k.desired.Notices = nil
		if asked {
			k.desired.Notices = []cells.Notice{{Code: cells.NoticeRotate}}
		}
	})
}

// awaitKey waits until the cell reports with another key than before, and has no other.
func (k *keyedControlPlane) awaitKey(t testing.TB, dir string, before []byte) credentials {
	t.Helper()
	var now credentials
	k.await(t, "a new key", func(cells.Report) bool {
		now = readCredentials(t, dir)
		return !bytes.Equal(now.Key, before) && len(now.Next) == 0
	})
	return now
}

// A new key is made when the control plane requests one, once, and is then the only one in use.
func TestRotation(t *testing.T) {
	t.Parallel()
	k := newKeyedControlPlane(t)
	s := k.newSettings(t, k.newToken(t, "acme"))
	c := start(t, s)
	k.await(t, "pending", func(cells.Report) bool { return true })
	first := readCredentials(t, s.State)
	k.setRotation(true)
	second := k.awaitKey(t, s.State, first.Key)
	k.updateKeys(func() { delete(k.cells, k.tokenKeys[0]) }) // the old key is no longer accepted
	one := k.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	k.assign(one) // the notice is still there, but the key is new enough
	k.await(t, "healthy", healthyOn(one))
	k.setRotation(false)
	c.stop()
	if now := readCredentials(t, s.State); !bytes.Equal(now.Key, second.Key) || len(now.Next) > 0 ||
		len(k.presentedKeys) != 1 {
		t.Errorf("%d keys were presented, and it has %+v next", len(k.presentedKeys), now.Next)
	}
	since := k.reportCount()
	start(t, s)
	k.awaitAfter(t, since, "healthy after a restart", healthyOn(one))
}

// After a kill at any point of a rotation some key works, whether or not the old one is still accepted, and the
// rotation completes.
func TestRotationKilledAtEveryPoint(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"next key made", "next key presented", "next key kept"} {
		for _, strict := range []bool{false, true} {
			k := newKeyedControlPlane(t)
			k.dropsOldKey = strict
			q := newAgentProcess(t, k.controlPlane)
			q.Server, q.Join = "", k.newToken(t, "acme").String()
			one := k.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
			k.assign(one)
			q.start("", 0)
			k.await(t, "healthy", healthyOn(one))
			q.kill()
			first := readCredentials(t, q.State)
			k.setRotation(true)
			q.start(point, 0)
			q.awaitDeath()
			k.setRotation(false) // whether or not the plane knows the new key, the rotation completes
			q.start("", 0)
			k.awaitKey(t, q.State, first.Key)
			since := k.reportCount()
			k.awaitAfter(t, since, "healthy under the new key", healthyOn(one))
			q.kill()
			k.mu.Lock()
			if keys := slices.Compact(slices.Clone(k.presentedKeys)); len(keys) != 1 {
				t.Errorf("%s: %d keys were presented", point, len(keys))
			}
			k.mu.Unlock()
		}
	}
}

// A refused new key changes nothing, and is not presented again and again.
func TestRotationRefused(t *testing.T) {
	t.Parallel()
	k := newKeyedControlPlane(t)
	k.keyStatus = http.StatusConflict
	s := k.newSettings(t, k.newToken(t, "acme"))
	start(t, s)
	k.await(t, "pending", func(cells.Report) bool { return true })
	first := readCredentials(t, s.State)
	k.setRotation(true)
	presented := func() bool { k.mu.Lock(); defer k.mu.Unlock(); return len(k.presentedKeys) > 0 }
	k.await(t, "it presents one", func(cells.Report) bool { return presented() })
	for range 5 {
		k.setRotation(true)
		since := k.reportCount()
		k.awaitAfter(t, since, "still there", func(cells.Report) bool { return true })
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := readCredentials(t, s.State); !bytes.Equal(now.Key, first.Key) || len(now.Next) > 0 ||
		len(k.presentedKeys) != 1 {
		t.Errorf("presented %d times; next is %v", len(k.presentedKeys), now.Next)
	}
}

// R29: a control plane that was taken over accepts any key. Whatever keys it had the cell make, the vendor's own, which
// knows the first one only, is followed again: the cell keeps the old key in use while it is still accepted, and tries
// former ones where the present one is refused.
func TestR29FormerKeysOutliveATakeover(t *testing.T) {
	t.Parallel()
	for name, refusesOld := range map[string]bool{"it accepts everything": false, "it plays the vendor's part": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeyedControlPlane(t)
			k.keepsOldKeys = !refusesOld
			s := k.newSettings(t, k.newToken(t, "acme"))
			start(t, s)
			k.await(t, "pending", func(cells.Report) bool { return true })
			first := readCredentials(t, s.State)
			k.setRotation(true)
			if refusesOld {
				k.awaitKey(t, s.State, first.Key)
			} else {
				k.await(t, "a new key was presented", func(cells.Report) bool {
					k.mu.Lock()
					defer k.mu.Unlock()
					return len(k.presentedKeys) > 0
				})
			}
			k.setRotation(false)
			k.updateKeys(func() { // the vendor is back
				k.keyStatus = http.StatusConflict
				clear(k.cells)
				k.cells[k.tokenKeys[0]] = "acme"
			})
			one := k.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
			k.assign(one)
			k.server.CloseClientConnections()
			k.await(t, "healthy under the first key", healthyOn(one))
			if now := readCredentials(t, s.State); !bytes.Equal(now.Key, first.Key) {
				t.Error("it has another key than the vendor knows")
			}
		})
	}
}
