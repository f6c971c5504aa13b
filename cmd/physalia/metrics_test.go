package main

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// metricsOf reads what a process shows of itself: values by name, labels included as they are written there.
func metricsOf(t *testing.T, addr string) map[string]float64 {
	t.Helper()
	r, err := (&http.Client{Timeout: time.Minute}).Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	values := map[string]float64{}
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		// A name may have labels with spaces; the value is behind the last one.
		at := strings.LastIndexByte(lines.Text(), ' ')
		if at < 0 || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		if values[lines.Text()[:at]], err = strconv.ParseFloat(lines.Text()[at+1:], 64); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
	}
	return values
}

// sumOf adds up the series of a name whose labels contain all the texts.
func sumOf(values map[string]float64, name string, labels ...string) (sum float64) {
	for series, v := range values {
		family, rest, _ := strings.Cut(series, "{")
		if family != name {
			continue
		}
		all := true
		for _, l := range labels {
			all = all && strings.Contains(rest, l)
		}
		if all {
			sum += v
		}
	}
	return sum
}

// soon waits until a condition holds. It is how long a test waits for what must happen, and never how long something takes.
func soon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	look, deadline := time.NewTicker(50*time.Millisecond), time.After(2*time.Minute)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("waited two minutes in vain: %s", what)
		}
	}
}
