package releases_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/releases"
)

func parse(t testing.TB, s string) releases.Version {
	t.Helper()
	v, err := releases.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// R12, fault 43: numbers are numbers, not text; a pre-release comes before its release.
func TestVersionOrder(t *testing.T) {
	ordered := []string{
		"0.0.0-0", "0.0.0", "v1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
		"v1.0.0-beta.11",
		"1.0.0-rc.1", "1.0.0-rc.1.1", "1.0.0", "v1.9.0", "1.10.0", "1.10.1", "2026.9.0", "2026.10.0-rc.1", "2026.10.0",
		"2026.11.3",
		"18446744073709551615.0.0-1", "18446744073709551615.0.0-99999999999999999999",
		"18446744073709551615.0.0-100000000000000000000",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := parse(t, a).Compare(parse(t, b)); got != want {
				t.Errorf("%s against %s: %d, want %d", a, b, got, want)
			}
			if parse(t, a).Less(parse(t, b)) != (want < 0) {
				t.Errorf("%s less than %s", a, b)
			}
		}
		if (releases.Version{}).Compare(parse(t, a)) != -1 || parse(t, a).Compare(releases.Version{}) != 1 {
			t.Errorf("%s against no version", a)
		}
	}
	one, v := parse(t, "1.2.3"), parse(t, "v1.2.3")
	if one.Compare(v) != 0 || one.Equal(v) || one == v || (releases.Version{}).Compare(releases.Version{}) != 0 {
		t.Error("1.2.3 and v1.2.3 must tie, and differ")
	}
}

func TestVersionRefused(t *testing.T) {
	for in, why := range map[string]string{
		"": "three numbers", "1": "three numbers", "1.2": "three numbers", "1.2.3.4": "three numbers",
		"vv1.2.3": "a number", "V1.2.3": "a number",
		"1.2.x": "a number", "1..3": "a number", "-1.2.3": "three numbers", "1.2.3-": "pre-release",
		"1.2.3-a..b": "pre-release", "1.2.3-ä": "pre-release",
		"1.2.3-01": "leading zeros", "01.2.3": "leading zeros", "2026.09.0": "leading zeros",
		"1.2.3+build": "build metadata",
		"1.2.3-a+b":   "build metadata", "18446744073709551616.0.0": "too large",
		"1.2.3-" + strings.Repeat("a", 200): "longer", " 1.2.3": "a number",
		"1.2.3\n": "a number", "1.2.3/..": "three numbers", "１.2.3": "a number",
	} {
		if _, err := releases.ParseVersion(in); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, want %q", in, err, why)
		}
	}
}

func TestVersionText(t *testing.T) {
	v := parse(t, "v1.2.3-rc.1")
	if v.String() != "v1.2.3-rc.1" || !v.IsPrerelease() || v.IsZero() || parse(t, "1.2.3").IsPrerelease() ||
		!(releases.Version{}).IsZero() {
		t.Error(v)
	}
	in := struct {
		V releases.Version `json:"v"`
		W releases.Version `json:"w,omitzero"`
	}{V: v}
	b, err := json.Marshal(in)
	if err != nil || string(b) != `{"v":"v1.2.3-rc.1"}` {
		t.Error(string(b), err)
	}
	out := in
	out.V = releases.Version{}
	if err := json.Unmarshal(b, &out); err != nil || out != in {
		t.Error(out, err)
	}
	if json.Unmarshal([]byte(`{"v":"1.2"}`), &out) == nil {
		t.Error("1.2 was accepted")
	}
}

// A sort needs a total order: the results of Compare for three versions must be consistent.
func TestVersionCompareIsAnOrder(t *testing.T) {
	texts := rapid.Custom(func(t *rapid.T) string {
		s := rapid.StringMatching(`v?(0|[1-3]|10)\.(0|[1-3])\.(0|1)(-(0|1|9|10|a|B|a-|-)(\.(0|1|2|a)){0,2})?`).Draw(t,
			"version")
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		v := make([]releases.Version, 3)
		for i := range v {
			var err error
			if v[i], err = releases.ParseVersion(texts.Draw(t, "text")); err != nil {
				t.Fatal(err)
			}
		}
		if v[0].Compare(v[1]) != -v[1].Compare(v[0]) {
			t.Fatalf("%v and %v", v[0], v[1])
		}
		slices.SortFunc(v, releases.Version.Compare)
		if v[0].Compare(v[1]) > 0 || v[1].Compare(v[2]) > 0 || v[0].Compare(v[2]) > 0 {
			t.Fatalf("%v are not in order", v)
		}
		if v[0].Compare(v[2]) == 0 && v[0].Compare(v[1]) != 0 {
			t.Fatalf("%v: ties do not fit", v)
		}
	})
}

func FuzzVersion(f *testing.F) {
	for _, s := range []string{"1.2.3", "v2026.11.3-rc.1", "1.2.3-01", "1.2.3+b", "..", "99999999999999999999.0.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := releases.ParseVersion(s)
		if err != nil {
			if !v.IsZero() {
				t.Error("an error with a version")
			}
			return
		}
		if v.String() != s || v.Compare(v) != 0 || strings.ContainsAny(s, "/\\ \n+") {
			t.Errorf("%q", s)
		}
	})
}

func TestDigest(t *testing.T) {
	d := releases.DigestBytes([]byte("x"))
	if d != "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" || d.Short() != "2d711642b726" ||
		len(d.Hex()) != 64 {
		t.Error(d)
	}
	if got, err := releases.ParseDigest(string(d)); got != d || err != nil {
		t.Error(got, err)
	}
	for _, bad := range []string{"", "sha256:", string(d)[7:], string(d) + "0", strings.ToUpper(string(d)),
		"sha512:" + string(d)[7:], strings.Replace(string(d), "2d", "zz", 1)} {
		if _, err := releases.ParseDigest(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	var back releases.Digest
	if b, err := json.Marshal(d); err != nil || json.Unmarshal(b, &back) != nil || back != d ||
		json.Unmarshal([]byte(`"x"`), &back) == nil || json.Unmarshal([]byte(`""`), &back) != nil || back != "" {
		t.Error(back, err)
	}
	if releases.Digest("").Short() != "" {
		t.Error("no digest is short for something")
	}
}
