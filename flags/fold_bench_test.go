package flags

import (
	"encoding/json"
	"fmt"
	"testing"
)

// largeBundle returns a bundle of n flags, half of them gated by n/20 announcements.
func largeBundle(n int) *Bundle {
	b := &Bundle{Version: BundleVersion, Channel: "dedicated", Flags: make(map[string]json.RawMessage, n)}
	for i := range n {
		key := fmt.Sprintf("flag-%05d", i)
		rule := fmt.Sprintf(
			`{"if":[{"and":[{"==":[{"var":"tier"},"gold"]},{"sem_ver":[{"var":"release"},">=","2026.%d.0"]}]},"on",{"fractional":[["on",%d],["off",%d]]}]}`, i%12, i%100, 100-i%100)
		b.Flags[key] = gatedFlag(fmt.Sprintf("feature-%d", i%(n/10)), rule)
		if i%2 == 0 {
			b.Flags[key] = json.RawMessage(
				`{"state":"ENABLED","variants":{"off":false,"on":true},"defaultVariant":"on","targeting":` + rule + `}`)
		}
	}
	for i := range n / 20 {
		b.Gates = append(b.Gates, Gate{ID: fmt.Sprintf("announcement-%05d", i), At: int64(1000 + i),
			Features: []string{fmt.Sprintf("feature-%d", 2*i), fmt.Sprintf("feature-%d", 2*i+1)},
			Steps:    []GateStep{{Percent: 10}, {Percent: 100, After: 3600}}})
	}
	return b
}

func BenchmarkParseAndCompile10000(b *testing.B) {
	raw := largeBundle(10_000).Encode()
	b.ReportAllocs()
	for b.Loop() {
		bundle, err := ParseBundle(raw)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Compile(bundle); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFold10000(b *testing.B) {
	c, err := Compile(largeBundle(10_000))
	if err != nil {
		b.Fatal(err)
	}
	facts := Facts{Cell: "acme", Channel: "dedicated", Release: "2026.11.3"}
	for i := range 1_000 {
		facts.Features = append(facts.Features, fmt.Sprintf("feature-%d", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Fold(Orders{Killed: []KilledFlag{{Flag: "flag-00007"}}, Held: []string{"announcement-00009"}}, facts, 1_200)
	}
}

func BenchmarkDocument10000(b *testing.B) {
	c, err := Compile(largeBundle(10_000))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c.Fold(Orders{}, Facts{Cell: "acme", Features: []string{"feature-1"}}, 1_200).Document()
	}
}
