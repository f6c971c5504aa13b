package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"physalia/bench/contest"
)

func TestQuickIsOnlyADefault(t *testing.T) {
	o, err := parse([]string{"-quick", "-point", "3s"})
	if err != nil || o.point != 3*time.Second || o.rounds != 1 || o.limit >= 10*time.Minute {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err = parse(nil); err != nil || o.rounds != 3 || o.point != 10*time.Second {
		t.Errorf("got %+v, %v", o, err)
	}
	if _, err := parse([]string{"etcd"}); err == nil {
		t.Error("a word that is no flag was taken")
	}
}

func TestChoose(t *testing.T) {
	made := ""
	of := func(name string) entry { return entry{name, func() contest.Subject { made += name; return nil }} }
	makers, err := choose([]entry{of("a"), of("b"), of("c")}, "c,a")
	if err != nil || len(makers) != 2 {
		t.Fatalf("%d makers, %v", len(makers), err)
	}
	for _, m := range makers {
		m()
	}
	if made != "ca" {
		t.Errorf("made %q, want ca", made)
	}
	if _, err := choose([]entry{of("a")}, "z"); err == nil || !strings.Contains(err.Error(), "there are a") {
		t.Errorf("an unknown subject: %v", err)
	}
}

func TestVerdict(t *testing.T) {
	good := contest.Result{Facts: contest.Facts{System: "physalia"}, VerifiedKeys: 1}
	peer := contest.Result{Facts: contest.Facts{System: "etcd"}, DidNotFinish: "start: too slow"}
	if err := verdict([]contest.Result{good, peer}, nil); err != nil {
		t.Errorf("a peer that did not finish is a result: %v", err)
	}
	for name, bad := range map[string]contest.Result{
		"a peer lost a key":   {Facts: peer.Facts, VerifiedKeys: 5, LostKeys: 1},
		"ours did not finish": {Facts: good.Facts, DidNotFinish: "start: too slow"},
	} {
		if verdict([]contest.Result{good, bad}, nil) == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := verdict([]contest.Result{good}, errors.New("out of time")); err == nil {
		t.Error("an incomplete run is no error")
	}
}

func TestPlan(t *testing.T) {
	for _, bad := range [][]string{{"-clients", "1,x"}, {"-kinds", "write,dance"}} {
		o, err := parse(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := o.plan(); err == nil {
			t.Errorf("%v: taken", bad)
		}
	}
}
