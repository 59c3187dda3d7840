package view

import (
	"reflect"
	"testing"

	"github.com/sluice-cd/sluice/cells"
)

// R31: every field of a Key changes the ETag.
func TestETagHasEveryField(t *testing.T) {
	t.Parallel()
	seen := map[string]string{Key{}.etag("acme"): "the zero key", Key{}.etag("bolt"): "another cell"}
	note := func(what string, k Key) {
		tag := k.etag("acme")
		if other, ok := seen[tag]; ok {
			t.Errorf("%s and %s have one ETag", what, other)
		}
		seen[tag] = what
	}
	var walk func(path string, k *Key, v reflect.Value)
	walk = func(path string, k *Key, v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, k, v.Field(i))
			}
			return
		case reflect.String:
			v.SetString("x")
		case reflect.Int64:
			v.SetInt(7)
		case reflect.Bool:
			v.SetBool(true)
		default:
			t.Fatalf("%s is a %s: give etag and this test a way with it", path, v.Kind())
		}
		note(path, *k)
		v.SetZero()
	}
	k := &Key{}
	walk("Key", k, reflect.ValueOf(k).Elem())
	if n := reflect.TypeFor[cells.Head]().NumField(); len(seen) < 2+n {
		t.Errorf("only %d ETags", len(seen))
	}
	note("a:b", Key{Head: cells.Head{Channel: "a:", Release: "b"}})
	note("a and :b", Key{Head: cells.Head{Channel: "a", Release: ":b"}})
}
