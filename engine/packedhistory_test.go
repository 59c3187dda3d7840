package engine

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// Every field of what is packed comes back: a field that is added to a type must be packed too.
func TestPackedHistoryHasEveryField(t *testing.T) {
	n := 0
	origin, head := new(plan.Origin), plan.EffectiveHead{}
	fill(t, reflect.ValueOf(origin).Elem(), &n)
	fill(t, reflect.ValueOf(&head).Elem(), &n)
	h := plan.NewHistory()
	h.Tip, h.Acknowledged = "tip", []plan.Acknowledgement{{Loss: "lost", Key: "k"}}
	h.Releases["1.0.0"], h.Releases["2.0.0"] = origin, &plan.Origin{}
	h.Channels["staging"] = &plan.PastChannel{Heads: []plan.EffectiveHead{head, {}}, SignedHead: 3,
		Approvals: map[string]plan.Approval{}}
	h.Channels["empty"] = &plan.PastChannel{Approvals: map[string]plan.Approval{}}
	digests := map[digestKey]releases.Digest{{"1.0.0", "tree"}: "sha256:1", {"2.0.0", "other"}: "sha256:2"}
	packed := packHistory(h, digests)
	if h.Releases["1.0.0"] != origin || len(h.Channels["staging"].Heads) != 2 {
		t.Fatal("packing changed the history")
	}
	got, gotDigests, ok := packed.unpack()
	if !ok || !reflect.DeepEqual(got, h) || !reflect.DeepEqual(gotDigests, digests) {
		t.Errorf("%v\n%+v\nwant\n%+v\n%v, want %v", ok, got, h, gotDigests, digests)
	}
}

// Whatever is cut off, the rest counts as no cache, and nothing panics.
func TestPackedHistoryCutOff(t *testing.T) {
	h := plan.NewHistory()
	h.Releases["1.0.0"] = &plan.Origin{Commit: "c", Authors: []releases.Person{{Name: "a", Email: "b"}}}
	h.Channels["staging"] = &plan.PastChannel{Heads: []plan.EffectiveHead{{Written: "w", Moved: time.Unix(1, 2)}}}
	whole := packHistory(h, map[digestKey]releases.Digest{{"1.0.0", "tree"}: "sha256:1"})
	for n := range whole.Packed {
		cut := packedHistory{Rest: whole.Rest, Packed: whole.Packed[:n], Texts: whole.Texts}
		if _, _, ok := cut.unpack(); ok {
			t.Errorf("%d of %d bytes count as whole", n, len(whole.Packed))
		}
	}
	for n := range whole.Texts {
		cut := packedHistory{Rest: whole.Rest, Packed: whole.Packed, Texts: whole.Texts[:n]}
		if _, _, ok := cut.unpack(); ok {
			t.Errorf("%d of %d bytes of text count as whole", n, len(whole.Texts))
		}
	}
}

// fill sets every field below v to something that is not zero, and different from the others.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(int64(*n), 5).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("%s: pack and fill this kind", v.Type())
	}
}
