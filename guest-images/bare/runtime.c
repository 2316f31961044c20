#include "runtime.h"

/* 16550 registers and bits. */
#define UART_DATA        0
#define UART_IER         1
#define UART_FCR         2
#define UART_LCR         3
#define UART_MCR         4
#define UART_LSR         5
#define UART_LSR_DATA    0x01
#define UART_LSR_EMPTY   0x20
#define UART_LCR_8N1     0x03
#define UART_FCR_ENABLE  0x07
#define UART_MCR_DTR_RTS 0x03

static uint16_t uart;

void *memcpy(void *to, const void *from, size_t length)
{
	void *start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
	return start;
}

void *memset(void *to, int value, size_t length)
{
	void *start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(value) : "memory");
	return start;
}

int memcmp(const void *a, const void *b, size_t length)
{
	const uint8_t *x = a, *y = b;

	for (size_t i = 0; i < length; i++)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

size_t strlen(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	return length;
}

bool str_equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 99;
}

bool parse_number(const char *text, uint64_t *value)
{
	unsigned base = 10, shift = 0;
	uint64_t result = 0;

	if (text[0] == '0' && text[1] == 'x') {
		base = 16;
		text += 2;
	}
	if (digit_value(*text) >= (int)base)
		return false;
	for (; digit_value(*text) < (int)base; text++) {
		if (__builtin_mul_overflow(result, base, &result) ||
		    __builtin_add_overflow(result, (uint64_t)digit_value(*text), &result))
			return false;
	}
	switch (*text) {
	case 'K':
		shift = 10;
		break;
	case 'M':
		shift = 20;
		break;
	case 'G':
		shift = 30;
		break;
	}
	if (shift)
		text++;
	if (*text || (result << shift) >> shift != result)
		return false;
	*value = result << shift;
	return true;
}

void serial_init(uint16_t port)
{
	uart = port;
	outb(uart + UART_IER, 0);
	outb(uart + UART_LCR, UART_LCR_8N1);
	outb(uart + UART_FCR, UART_FCR_ENABLE);
	outb(uart + UART_MCR, UART_MCR_DTR_RTS);
}

static void put_char(char c)
{
	while (!(inb(uart + UART_LSR) & UART_LSR_EMPTY))
		cpu_pause();
	outb(uart + UART_DATA, (uint8_t)c);
}

static void put_string(const char *text)
{
	while (*text)
		put_char(*text++);
}

static void put_number(uint64_t value, unsigned base)
{
	char digits[24];
	size_t i = sizeof(digits);

	digits[--i] = '\0';
	do {
		digits[--i] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	put_string(digits + i);
}

static void vprint(const char *format, va_list arguments)
{
	for (; *format; format++) {
		int64_t number;

		if (*format != '%') {
			put_char(*format);
			continue;
		}
		switch (*++format) {
		case 's':
			put_string(va_arg(arguments, const char *));
			break;
		case 'u':
			put_number(va_arg(arguments, uint64_t), 10);
			break;
		case 'x':
			put_string("0x");
			put_number(va_arg(arguments, uint64_t), 16);
			break;
		case 'd':
			number = va_arg(arguments, int64_t);
			if (number < 0)
				put_char('-');
			put_number(number < 0 ? -(uint64_t)number : (uint64_t)number, 10);
			break;
		default:
			put_char('%');
			break;
		}
	}
}

void print(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vprint(format, arguments);
	va_end(arguments);
}

/* Between two looks at the line register: an idle guest need not exit a million times a second. */
static void idle(void)
{
	for (unsigned i = 0; i < 2000; i++)
		cpu_pause();
}

bool serial_has_input(void)
{
	return inb(uart + UART_LSR) & UART_LSR_DATA;
}

void serial_read_line(char *line, size_t size)
{
	size_t length = 0;
	char c;

	for (;;) {
		while (!serial_has_input())
			idle();
		c = (char)inb(uart + UART_DATA);
		if (c == '\n' || c == '\r') {
			line[length] = '\0';
			return;
		}
		if (length < size - 1)
			line[length++] = c;
	}
}

const char *command_tag = "";

static void answer(const char *kind, const char *format, va_list arguments)
{
	put_string(kind);
	if (*command_tag) {
		put_char(' ');
		put_string(command_tag);
	}
	if (*format) {
		put_char(' ');
		vprint(format, arguments);
	}
	put_string("\r\n");
}

void answer_ok(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	answer("@ok", format, arguments);
	va_end(arguments);
}

void answer_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	answer("@fail", format, arguments);
	va_end(arguments);
}
