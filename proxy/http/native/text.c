/* Text: a line of the access log, and an exchange for the memory of the last ones, written in place; and what
 * the C library keeps of memory that was freed. */
#include "codec.h"

#include <time.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

enum { MAX_VALUE = 2048, DIGITS = 20, MOST_TEXTS = 32, SECOND_CHARS = 19 };

/* What stands between the values: the same tuple for line after line, so it is looked into once. */
static PyObject *known;
static struct {
    const char *text;
    Py_ssize_t size;
} between[MOST_TEXTS];
static Py_ssize_t betweens;

/* Where the next octet goes, and where the room ends. */
typedef struct {
    char *at, *end;
} Room;

static int learn(PyObject *texts)
{
    Py_ssize_t count = PyTuple_Size(texts);
    if (count < 0)
        return -1;
    if (count > MOST_TEXTS) {
        PyErr_Format(PyExc_ValueError, "at most %d texts", MOST_TEXTS);
        return -1;
    }
    Py_CLEAR(known);
    for (Py_ssize_t i = 0; i < count; i++)
        if (!(between[i].text = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(texts, i), &between[i].size)))
            return -1;
    betweens = count;
    known = Py_NewRef(texts); /* holds the texts, and they their octets */
    return 0;
}

static int put_text(Room *room, const char *text, Py_ssize_t size)
{
    if (room->end - room->at < size)
        return 0;
    memcpy(room->at, text, size);
    room->at += size;
    return 1;
}

/* Whether a JSON string may hold it as it is: U+0020 to U+007E but for quote and backslash, eight at a time. */
static int is_plain(const char *text, Py_ssize_t size)
{
    const uint64_t ones = ~(uint64_t)0 / 255, high = ones << 7;
    uint64_t odd = 0;
    for (; size >= 8; text += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\'), last = word ^ (ones * 0x7f);
        odd |= word | (word - ones * 0x20) | (quote - ones) | (slash - ones) | (last - ones);
    }
    if (odd & high)
        return 0;
    for (; size; text++, size--)
        if (!(classes[(u8)*text] & QUOTED))
            return 0;
    return 1;
}

static int put_bytes(Room *room, PyObject *value)
{
    char *text;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(value, &text, &size) < 0)
        return -1;
    if (size > MAX_VALUE || room->end - room->at < size + 2)
        return 0;
    if (!is_plain(text, size))
        return 0;
    *room->at++ = '"';
    memcpy(room->at, text, size);
    room->at += size;
    *room->at++ = '"';
    return 1;
}

static int put_number(Room *room, PyObject *value)
{
    char digits[DIGITS];
    int first = DIGITS;
    if (!PyLong_Check(value)) { /* also what has an __index__, whose code could free the room */
        PyErr_SetString(PyExc_TypeError, "a value is text, bytes, a number, a time or None");
        return -1;
    }
    long long number = PyLong_AsLongLong(value);
    if (number < 0) {
        PyErr_Clear(); /* more than 64 bits */
        return 0;
    }
    do
        digits[--first] = (char)('0' + number % 10);
    while (number /= 10);
    return put_text(room, digits + first, DIGITS - first);
}

/* The second that was written last, `2026-11-24T04:00:00`: the same for most lines. */
static struct {
    time_t second;
    char text[SECOND_CHARS + 1];
} last;

static int put_time(Room *room, PyObject *value)
{
    double seconds = PyFloat_AsDouble(value);
    if (!(seconds >= 1 && seconds < 253402300800.0)) /* of four digits is the year until then */
        return 0;
    time_t second = (time_t)seconds;
    int milliseconds = (int)((seconds - second) * 1000);
    if (second != last.second) {
        struct tm parts;
        if (!gmtime_r(&second, &parts) || !strftime(last.text, sizeof last.text, "%Y-%m-%dT%H:%M:%S", &parts))
            return 0;
        last.second = second;
    }
    char rest[5] = {'.', '0' + milliseconds / 100, '0' + milliseconds / 10 % 10, '0' + milliseconds % 10, 'Z'};
    return put_text(room, last.text, SECOND_CHARS) && put_text(room, rest, sizeof rest);
}

static int put_value(Room *room, PyObject *value)
{
    Py_ssize_t size;
    if (Py_TYPE(value) == &PyUnicode_Type) {
        const char *text = PyUnicode_AsUTF8AndSize(value, &size);
        if (!text)
            PyErr_Clear(); /* half a surrogate pair */
        return text ? put_text(room, text, size) : 0;
    }
    if (Py_TYPE(value) == &PyBytes_Type)
        return put_bytes(room, value);
    if (Py_TYPE(value) == &PyFloat_Type)
        return put_time(room, value);
    return value == Py_None ? put_text(room, "null", 4) : put_number(room, value);
}

const char trim_doc[] = "trim() -> None\n\nGives free pages of the C library's heap back to the kernel.";

PyObject *trim(PyObject *self, PyObject *ignored)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    Py_RETURN_NONE;
}

const char compose_doc[] =
    "compose(room, at, texts, values) -> int\n\n"
    "Writes a line into a bytearray from an offset on, each text and the value after it, and returns where it ends. A\n"
    "value is text as it is, bytes as a JSON string, a whole number, None as null, or seconds since the epoch as a time.\n"
    "-1: what needs escaping or cutting, a number below 0 or of more than 64 bits, a time before 1970 or after 9999,\n"
    "or no room; Python does that.";

static int write_line(Room *room, PyObject *values)
{
    int outcome = 1;
    for (Py_ssize_t i = 0; i < betweens && outcome > 0; i++) {
        outcome = put_text(room, between[i].text, between[i].size);
        if (outcome > 0)
            outcome = put_value(room, PyTuple_GetItem(values, i));
    }
    return outcome;
}

PyObject *compose(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || Py_TYPE(args[0]) != &PyByteArray_Type)
        return PyErr_Format(PyExc_TypeError, "a bytearray, an offset, texts and values");
    if (args[2] != known && learn(args[2]) < 0)
        return NULL;
    Py_ssize_t at = PyLong_AsSsize_t(args[1]), size = PyByteArray_Size(args[0]), given = PyTuple_Size(args[3]);
    if (PyErr_Occurred())
        return NULL;
    if (given != betweens || at < 0 || at > size)
        return PyErr_Format(PyExc_ValueError, "%zd texts, %zd values, from %zd of %zd", betweens, given, at, size);
    char *first = PyByteArray_AsString(args[0]);
    Room room = {first + at, first + size};
    int outcome = write_line(&room, args[3]);
    return outcome < 0 ? NULL : PyLong_FromSsize_t(outcome ? room.at - first : -1);
}

const char pack_doc[] =
    "pack(ring, at, is_told, ended_at, started_at, sent, received, trace, parent, path) -> bool\n\n"
    "Packs an exchange into a slot of a bytearray, as proxy.recent lays it out; False when the path has no room there.";

enum { FLAGS = 4, NUMBERS = 4 * 8, TRACE = 55, PARENT = 16, PATH_TEXT = 84, ELSEWHERE = 255 };
enum { SLOT = FLAGS + NUMBERS + TRACE + PARENT + PATH_TEXT };

static char *put_octets(char *at, const char *text, Py_ssize_t size, Py_ssize_t room)
{
    memcpy(at, text, size);
    memset(at + size, 0, room - size);
    return at + room;
}

PyObject *pack(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 10 || Py_TYPE(args[0]) != &PyByteArray_Type || Py_TYPE(args[3]) != &PyFloat_Type ||
        Py_TYPE(args[4]) != &PyFloat_Type || !PyLong_Check(args[5]) || !PyLong_Check(args[6]))
        return PyErr_Format(PyExc_TypeError, "a bytearray, an offset, a truth, two floats, two numbers and three texts");
    Py_ssize_t at = PyLong_AsSsize_t(args[1]), traced, parented, size;
    double times[] = {PyFloat_AsDouble(args[3]), PyFloat_AsDouble(args[4])};
    int64_t bytes[] = {PyLong_AsLongLong(args[5]), PyLong_AsLongLong(args[6])};
    char *trace, *parent;
    if (PyErr_Occurred() || PyBytes_AsStringAndSize(args[7], &trace, &traced) < 0 ||
        PyBytes_AsStringAndSize(args[8], &parent, &parented) < 0)
        return NULL;
    const char *path = PyUnicode_AsUTF8AndSize(args[9], &size);
    int is_here = path && size <= PATH_TEXT && PyUnicode_GetLength(args[9]) == size; /* ASCII alone */
    if (!path) {
        if (!PyUnicode_Check(args[9]))
            return NULL;
        PyErr_Clear(); /* half a surrogate pair */
    }
    if (at < 0 || at > PyByteArray_Size(args[0]) - SLOT || traced > TRACE || parented > PARENT)
        return PyErr_Format(PyExc_ValueError, "a slot at %zd, a trace of %zd, a parent of %zd", at, traced, parented);
    char *to = PyByteArray_AsString(args[0]) + at;
    char lengths[FLAGS] = {args[2] == Py_True, (char)traced, (char)parented, (char)(is_here ? size : ELSEWHERE)};
    memcpy(to, lengths, FLAGS);
    memcpy(to + FLAGS, times, sizeof times);
    memcpy(to + FLAGS + sizeof times, bytes, sizeof bytes);
    to = put_octets(to + FLAGS + sizeof times + sizeof bytes, trace, traced, TRACE);
    to = put_octets(to, parent, parented, PARENT);
    put_octets(to, is_here ? path : "", is_here ? size : 0, PATH_TEXT);
    return PyBool_FromLong(is_here);
}
