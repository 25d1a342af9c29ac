package config_test

import (
	"math"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/config"
	"pgregory.net/rapid"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]config.Size{
		"0": 0, "512": 512, "512B": 512, "1KB": 1000, "64MB": 64e6, "10GB": 10e9, "2TB": 2e12,
		"1KiB": 1 << 10, "64MiB": 64 << 20, "10GiB": 10 << 30, "1TiB": 1 << 40,
		"10gib": 10 << 30, " 5 MiB ": 5 << 20, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := config.ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "B", "MiB", "-1", "-1KiB", "1.5GiB", "1e3", "0x10", "1_000", "5KiBB", "5 K", "ten", "1 2",
		"9223372036854775808", "9007199254740992KiB", "8388608TiB",
	} {
		if got, err := config.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d; want a refusal", text, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "500ms": 500 * time.Millisecond, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour,
		"0d": 0, "-1d": -24 * time.Hour, " 2s ": 2 * time.Second, "36h": 36 * time.Hour, "106751d": 106751 * 24 * time.Hour,
	} {
		if got, err := config.ParseDuration(text); err != nil || time.Duration(got) != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "30", "1.5d", "1d12h", "7 d", "106752d", "-106752d", "99999999999999999999d", "a week"} {
		if got, err := config.ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v; want a refusal", text, got)
		}
	}
}

func TestSizeString(t *testing.T) {
	for size, want := range map[config.Size]string{
		0: "0", 1: "1", 1000: "1000", 1023: "1023", 1024: "1KiB", 1536: "1536", 48 << 20: "48MiB", 1 << 50: "1024TiB",
	} {
		if got := size.String(); got != want {
			t.Errorf("Size(%d) is written %q; want %q", size, got, want)
		}
	}
}

func TestSizesReadBackAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := config.Size(rapid.Int64Range(0, math.MaxInt64>>10).Draw(t, "n") << rapid.SampledFrom([]int{0, 10}).Draw(t, "shift"))
		text, err := size.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back config.Size
		if err := back.UnmarshalText(text); err != nil || back != size {
			t.Fatalf("%d is written %s and read as %d, %v", size, text, back, err)
		}
	})
}

func TestDurationsReadBackAsWritten(t *testing.T) {
	const day = 24 * time.Hour
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.OneOf(rapid.Int64(), rapid.Map(rapid.Int64Range(-106751, 106751), func(n int64) int64 { return n * int64(day) })).Draw(t, "d")
		text, err := config.Duration(d).MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back config.Duration
		if err := back.UnmarshalText(text); err != nil || int64(back) != d {
			t.Fatalf("%d is written %s and read as %d, %v", d, text, back, err)
		}
	})
}

func FuzzParseSize(f *testing.F) {
	for _, text := range []string{"0", "512", "64MB", "10GiB", "-1", "9223372036854775807", "8388608TiB", "1\u212aiB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, err := config.ParseSize(text)
		if err != nil {
			return
		}
		if size < 0 {
			t.Fatalf("%q is read as %d", text, size)
		}
		if back, err := config.ParseSize(size.String()); err != nil || back != size {
			t.Fatalf("%q is read as %d, written as %s, read again as %d, %v", text, size, size, back, err)
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, text := range []string{"0", "1h30m", "7d", "-7d", "2544000h", "106751d", "2562047h47m16.854775807s"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := config.ParseDuration(text)
		if err != nil {
			return
		}
		if back, err := config.ParseDuration(d.String()); err != nil || back != d {
			t.Fatalf("%q is read as %d, written as %s, read again as %d, %v", text, d, d, back, err)
		}
	})
}
