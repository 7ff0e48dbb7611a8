// Numbers and times as people read them.

export const percent = (ratio: number): string => {
  const value = ratio * 100;
  return value === 100 || value === 0 ? `${value} %` : `${value.toFixed(value > 99 ? 2 : 1)} %`;
};

export const perSecond = (rate: number): string => (rate >= 100 ? count(Math.round(rate)) : rate.toFixed(1));

export const milliseconds = (value: number | null): string =>
  value === null ? "–" : value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`;

export const microseconds = (value: number): string => milliseconds(value / 1000);

/** The first of a Swarm id's 25 signs, as Docker shows it; other names of tasks are whole. */
export const shortId = (id: string): string => (/^[0-9a-z]{25}$/.test(id) ? id.slice(0, 12) : id);

export const count = (value: number): string => value.toLocaleString("en");

export function ago(iso: string): string {
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  const ahead = seconds < 0;
  const size = Math.abs(seconds);
  const [number, unit] =
    size < 90 ? [size, "s"] : size < 5400 ? [size / 60, "min"] : size < 172800 ? [size / 3600, "h"] : [size / 86400, "d"];
  const text = `${Math.round(number as number)} ${unit}`;
  return ahead ? `in ${text}` : `${text} ago`;
}

export const denials = (denied: Record<string, number>): number =>
  Object.values(denied).reduce((sum, each) => sum + each, 0);
