package roster

import (
	"slices"
	"testing"
)

func TestAlone(t *testing.T) {
	r := Alone("c1", "host:7300")
	if got := r.Instances(); !slices.Equal(got, []Instance{{"c1", "host:7300", true}}) || r.Self() != "c1" {
		t.Fatalf("%v, self %q", got, r.Self())
	}
	select {
	case <-r.Changed():
		t.Error("nothing has changed")
	default:
	}
}

func TestBoardTellsChangesOnce(t *testing.T) {
	told := func(b *Board) bool {
		select {
		case <-b.Changed():
			return true
		default:
			return false
		}
	}
	b := NewBoard("b")
	b.Set([]Instance{{"b", "b:1", false}, {"a", "a:1", true}})
	b.Set([]Instance{{"a", "a:1", false}, {"b", "b:1", true}})
	if !told(b) || told(b) {
		t.Error("two changes that nobody had read are told once")
	}
	b.Set([]Instance{{"b", "b:1", true}, {"a", "a:1", false}})
	if told(b) {
		t.Error("the same content in another order is no change")
	}
	got := b.Instances()
	if !slices.Equal(got, []Instance{{"a", "a:1", false}, {"b", "b:1", true}}) {
		t.Fatalf("%v", got)
	}
	got[0].Name = "z"
	if b.Instances()[0].Name != "a" {
		t.Error("the slice is the caller's")
	}
}
