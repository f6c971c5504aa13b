package ground

import (
	"os"
	"testing"
)

func TestMemoryIsNoDisk(t *testing.T) {
	for number, ok := range map[int64]bool{0x01021994: false, 0x858458f6: false, 0xef53: true, 0x1234: true} {
		if name, err := durable(number); (err == nil) != ok {
			t.Errorf("%#x is %q: %v", number, name, err)
		}
	}
}

func TestProcess(t *testing.T) {
	cpu, rss, err := Process(os.Getpid())
	if err != nil || rss < 1<<20 || cpu > OwnCPU()+clockTick {
		t.Errorf("this process: %v of processor time, %d bytes, %v", cpu, rss, err)
	}
	if _, _, err := Process(-1); err == nil {
		t.Error("a process that is not there")
	}
}

func TestMeasureSync(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := measureSync(dir); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
